# The history of use: by hours, then by days, to whom the key's events are shown.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE;
	CREATE ROLE anna; CREATE ROLE bert; CREATE ROLE cleo;
	GRANT EXECUTE ON FUNCTION apikey_organization_create TO anna;
	SET ROLE anna;
	SELECT apikey_organization_create('acme');
	SELECT apikey_project_create('acme/pay');
	SELECT apikey_member_add('acme/pay', 'bert', 'owner')});
sub sql { my ($role, @sql) = @_; return $node->safe_psql('postgres', "SET ROLE $role; " . join '; ', @sql) }
my $key = sql('anna', "SELECT apikey_create('one', 'acme/pay', subject => 'carl')");
my $own = sql('anna', "SELECT apikey_create('own')");
sql('anna', "SELECT apikey_limit_set('tokens', 1000, '31 days', path => 'acme'), apikey_limit_set('tokens', 1000, '31 days', path => 'acme/pay')");
my $costs = sub { return "SELECT code FROM apikey_verify('$key', project => 'acme', costs => '{\"tokens\": $_[0]}')" };
is(sql('anna', $costs->(100), $costs->(50), $costs->(900), "SELECT code FROM apikey_verify('$key', project => 'other')",
	"SELECT code FROM apikey_verify('$key', project => 'other')", "SELECT code FROM apikey_verify('$own')"),
	"valid\nvalid\nrate_limited\nwrong_project\nwrong_project\nvalid", 'used');
sql('anna', "SELECT apikey_charge(apikey_id('$key'), '{\"tokens\": 30, \"images\": 5}', 'acme')", 'BEGIN', $costs->(7), 'ROLLBACK');
my $seen = "SELECT key_name, project, subject, starts_at = date_trunc('hour', now(), 'UTC'), step, use_count, denied, spent FROM apikey_usage_history ORDER BY key_name";
is(sql('anna', $seen), '', 'nothing yet');
$node->safe_psql('postgres', 'SELECT apikey_flush()');
is(sql('anna', $seen), qq{one|acme/pay|carl|t|01:00:00|3|{"rate_limited": 1, "wrong_project": 2}|{"tokens": 180}
own|||t|01:00:00|1|{}|{}}, 'an hour of each');
is(sql('bert', 'SELECT key_name FROM apikey_usage_history'), 'one', 'the project\'s owner sees its keys');
is(sql('cleo', 'SELECT key_name FROM apikey_usage_history'), '', 'a stranger none');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT key_id) FROM apikey_usage_history'), '2|2', 'a superuser all, each once');
# More of the same hour is added to its row.
is(sql('anna', $costs->(10), "SELECT apikey_check('$key')"), "valid\nf", 'used again');
$node->safe_psql('postgres', 'SELECT apikey_flush()');
is(sql('anna', "$seen LIMIT 1"), 'one|acme/pay|carl|t|01:00:00|4|{"rate_limited": 1, "wrong_project": 3}|{"tokens": 190}', 'to the same row');
# Whose the key was is told of its use until then, and whose it is of what comes.
my $moved = sql('anna', "SELECT apikey_create('moved')");
my $held = "SELECT key_name, subject, use_count, denied FROM apikey_usage_history WHERE key_name LIKE 'moved%' ORDER BY use_count";
sql('anna', ("SELECT apikey_check('$moved')") x 3);
$node->safe_psql('postgres', 'SELECT apikey_flush()');
sql('anna', "SELECT apikey_check('$moved')");
$node->safe_psql('postgres', "SELECT apikey_transfer(apikey_id('$moved'), 'cleo')");
$node->safe_psql('postgres', 'SELECT apikey_flush()');
for my $checks (["SELECT apikey_check('$moved')"], ["SELECT apikey_check('$moved')", "SELECT code FROM apikey_verify('$moved', '{a}')"])
{
	sql('cleo', @$checks);
	$node->safe_psql('postgres', 'SELECT apikey_flush()');
}
is(sql('anna', $held), 'moved||4|{}', 'until it is given away, flushed or not');
is(sql('cleo', $held), 'moved||2|{"insufficient_scope": 1}', 'and from then on');
$node->safe_psql('postgres', "SELECT apikey_transfer(apikey_id('$moved'), 'cleo', 'dora')");
sql('cleo', "SELECT apikey_check('$moved', owner => 'cleo')");
$node->safe_psql('postgres', 'SELECT apikey_flush()');
is($node->safe_psql('postgres', $held), qq{moved|dora|1|{}\nmoved||2|{"insufficient_scope": 1}\nmoved||4|{}}, 'of subjects, too');
sql('postgres', "SELECT apikey_delete(apikey_id('$moved'), 'moved')");
$node->safe_psql('postgres', "DELETE FROM apikey_history WHERE key_name = 'moved'");
# Old hours are summed to days, old days removed.
$node->safe_psql('postgres', q{
	CREATE TEMP TABLE old AS SELECT * FROM apikey_history WHERE key_name = 'one';
	INSERT INTO apikey_history SELECT gen_random_uuid(), key_id, key_name, key_owner, key_owner_name, key_subject, place, organization, project,
		date_trunc('day', now(), 'UTC') - h * interval '1 hour', step, use_count, denied, spent FROM old, (VALUES (240), (239), (239 + 480 * 24)) v (h)});
$node->safe_psql('postgres', 'SELECT apikey_flush()');
is(sql('anna', q{SELECT step, use_count, denied, spent, starts_at = date_trunc('day', starts_at, 'UTC') FROM apikey_usage_history WHERE starts_at < now() - interval '2 days'}),
	'1 day|8|{"rate_limited": 2, "wrong_project": 6}|{"tokens": 380}|t', 'a day of what was kept long enough');
$node->safe_psql('postgres', "ALTER SYSTEM SET apikey.history_days = 5");
$node->reload;
ok($node->poll_query_until('postgres', "SELECT pg_reload_conf() AND apikey_flush() IS NOT NULL AND NOT EXISTS (SELECT FROM apikey_usage_history WHERE step = '1 day')"), 'days end');
# A row that cannot be summed is told of, and keeps no other from being.
$node->safe_psql('postgres', q{INSERT INTO apikey_history SELECT gen_random_uuid(), key_id, key_name, key_owner, key_owner_name, key_subject, place, organization, project,
	date_trunc('day', now(), 'UTC') - interval '4 days' + h * interval '1 hour', step, use_count, CASE h WHEN 1 THEN '{"expired": 1e30}' ELSE denied END, spent
	FROM apikey_history, generate_series(0, 2) h WHERE key_name = 'one'; ALTER SYSTEM SET apikey.history_hours = 48});
my $told = -s $node->logfile;
ok($node->poll_query_until('postgres', "SELECT pg_reload_conf() AND apikey_flush() IS NOT NULL AND EXISTS (SELECT FROM apikey_usage_history WHERE step = '1 day')"), 'two hours are a day');
is(sql('anna', "SELECT step, use_count FROM apikey_usage_history WHERE starts_at < now() - interval '2 days' ORDER BY 1"), "01:00:00|4\n1 day|8", 'all but one');
like(slurp_file($node->logfile, $told), qr/WARNING:  bigint out of range.*CONTEXT:  apikey worker: summing the history of use/s, 'which the log tells of');
$node->safe_psql('postgres', "DELETE FROM apikey_history WHERE starts_at < now() - interval '2 days'");
# Without hours there are days.
$node->safe_psql('postgres', "ALTER SYSTEM SET apikey.history_hours = 0");
$node->reload;
ok($node->poll_query_until('postgres', "SELECT apikey_flush() IS NOT NULL AND NOT EXISTS (SELECT FROM apikey_usage_history WHERE step = '1 hour')"), 'no hours any more');
is(sql('anna', "SELECT key_name, step, use_count FROM apikey_usage_history ORDER BY 1"), "one|1 day|4\nown|1 day|1", 'summed');
sql('anna', "SELECT apikey_check('$own')");
$node->safe_psql('postgres', 'SELECT apikey_flush()');
is(sql('anna', "SELECT step, use_count FROM apikey_usage_history WHERE key_name = 'own'"), '1 day|2', 'and days are written');
# Of ever new names of units a row has some, and the sum of all others.
my $many = sql('anna', "SELECT apikey_create('many')");
for my $round (1 .. 10)
{
	my @units = map { "unit_${round}_$_" } 1 .. 8;
	sql('anna', "SELECT apikey_limit_drop(id) FROM apikey_limits WHERE key_id = apikey_id('$many')",
		(map { "SELECT apikey_limit_set('$_', 100, '1 day', key => apikey_id('$many'))" } @units));
	sql('anna', "SELECT code FROM apikey_verify('$many', costs => '{" . join(', ', map { qq("$_": 3) } @units) . "}')");
	$node->safe_psql('postgres', 'SELECT apikey_flush()');
}
my $names = q{SELECT count(*), sum(value::int), max(value::int) FILTER (WHERE key = 'other') FROM apikey_usage_history, jsonb_each_text(spent) WHERE key_name = 'many' GROUP BY step};
is(sql('anna', $names), '65|240|48', 'a bounded number of units, and all that was spent');
# Hours with many are summed to such a day, quickly.
$node->safe_psql('postgres', q{
	UPDATE apikey_history SET step = '1 hour', starts_at = date_trunc('day', now(), 'UTC') - interval '3 days', spent = (SELECT jsonb_object_agg('a_unit_' || i, 2) FROM generate_series(1, 5000) i) WHERE key_name = 'many';
	INSERT INTO apikey_history SELECT gen_random_uuid(), key_id, key_name, key_owner, key_owner_name, key_subject, place, organization, project,
		starts_at + h * interval '1 hour', step, use_count, denied, (SELECT jsonb_object_agg('b_unit_' || i, 2) FROM generate_series(1, 5000) i) FROM apikey_history, generate_series(1, 19) h WHERE key_name = 'many'});
ok($node->poll_query_until('postgres', "SELECT apikey_flush() IS NOT NULL AND NOT EXISTS (SELECT FROM apikey_usage_history WHERE step = '1 hour')"), 'hours are summed');
is(sql('anna', $names), '65|200000|199872', 'to a day that has as many');
# It stays when the key is gone, as its events do.
sql('anna', "SELECT apikey_delete(apikey_id('$own'), 'own')");
is(sql('anna', "SELECT use_count FROM apikey_usage_history WHERE key_name = 'own'"), '2', 'of a key that is gone');
$node->stop;
done_testing();
