# Limits elsewhere: in a dump, on a standby and on a logical subscriber.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
};
my $main = PostgreSQL::Test::Cluster->new('main');
$main->init(allows_streaming => 'logical');
$main->append_conf('postgresql.conf', $conf);
$main->start;
$main->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE;
	CREATE ROLE anna; CREATE ROLE leaves;
	GRANT EXECUTE ON FUNCTION apikey_organization_create TO anna;
	SET ROLE anna;
	SELECT apikey_organization_create('acme');
	SELECT apikey_project_create('acme/pay')});
$main->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($main, 'backup', has_streaming => 1);
$standby->start;

sub on { my ($node, $role, @sql) = @_; return $node->safe_psql('postgres', "SET ROLE $role; " . join '; ', @sql) }
sub set { my ($role, $arguments) = @_; return on($main, $role, "SELECT apikey_limit_set($arguments)") }
my $key = on($main, 'anna', "SELECT apikey_create('one', 'acme/pay', subject => 'carl')");
my $own = on($main, 'anna', "SELECT apikey_create('own', subject => 'carl')");
my $gone = on($main, 'leaves', "SELECT apikey_create('gone', subject => 'carl')");
my $id = "apikey_id('$key')";
my %limit = (
	project => set('anna', "'words', 100, '31 days', path => 'acme/pay'"),
	organization => set('anna', "'tokens', 1000, '1 month', 'quota', path => 'acme', overdraft => 50"),
	key => set('anna', "'tokens', 500, NULL, 'balance', key => $id"),
	there => set('anna', "'images', 10, '31 days', path => 'acme/pay', subject => 'carl'"),
	subject => set('anna', "'words', 7, '31 days', subject => 'carl'"),
	leaves => set('leaves', "'words', 7, '31 days', subject => 'carl'"));
# Who waits for the worker may be too late once.
sub spend
{
	my ($node, $costs, $of, $session) = @_;
	my $sql = "SELECT code, detail->'limit'->>'holder' FROM apikey_verify('" . ($of // $key) . "', " . (!defined $of ? "project => 'acme'" : "owner => 'anna'") . ", cost => 0, costs => '$costs')";
	my $result;
	for (1 .. 50)
	{
		$result = $session ? $session->query_safe($sql) : $node->safe_psql('postgres', $sql);
		last if $result !~ /^unavailable/ || $node->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 't' || $node->name ne 'main';
	}
	return $result;
}
is(spend($main, '{"tokens": 200, "words": 40, "images": 4}'), 'valid|', 'spent');
on($main, 'anna', "SELECT apikey_charge($id, '{\"tokens\": 100}', 'acme')");
sub lefts { my ($node, $database) = @_; return $node->safe_psql($database // 'postgres', "SELECT string_agg(unit || ' ' || remaining, ', ' ORDER BY created_at) FROM apikey_limits") }
is(lefts($main), 'words 60, tokens 700, tokens 200, images 6, words 7, words 7', 'what is left');
my $history = 'SELECT key_name, use_count, spent FROM apikey_usage_history ORDER BY 1';
$main->safe_psql('postgres', 'SELECT apikey_flush()');
is($main->safe_psql('postgres', $history), 'one|0|{"words": 40, "images": 4, "tokens": 300}', 'and was spent');

# A standby shows the limits, has rates of its own, and nothing to lease.
$main->wait_for_catchup($standby);
my $list = q{SELECT coalesce(path, key_id::text, role_name), subject, unit, kind, amount, period, shared, overdraft, created_at, created_by FROM apikey_limits ORDER BY created_at};
is($standby->safe_psql('postgres', $list), $main->safe_psql('postgres', $list), 'a standby shows them');
is($standby->safe_psql('postgres', $history), $main->safe_psql('postgres', $history), 'and the history');
my $warm = $standby->background_psql('postgres');
is(spend($standby, '{"words": 100}', undef, $warm), 'valid|', 'its rate');
is(spend($standby, '{"words": 1}', undef, $warm), 'rate_limited|project', 'of its own');
is(lefts($main) =~ s/,.*//r, 'words 60', 'not the primary\'s');
my $shared = set('anna', "'calls', 10, '31 days', path => 'acme/pay', shared => true");
is(spend($main, '{"calls": 1}'), 'valid|', 'one that servers share');
$main->wait_for_catchup($standby);
is(spend($standby, '{"calls": 1}', undef, $warm), 'unavailable|', 'cannot be decided there');
is($standby->safe_psql('postgres', "SELECT remaining IS NULL FROM apikey_limits WHERE id = '$shared'"), 't', 'nor what is left of it told');
is(spend($standby, '{"tokens": 1}', undef, $warm), 'unavailable|', 'a quota cannot be decided there');
for my $call ("apikey_charge($id, '{\"tokens\": 1}', 'acme')")
{
	my ($result, $stdout, $stderr) = $standby->psql('postgres', "\\set VERBOSITY sqlstate\nSET ROLE anna;\nSELECT $call");
	like($stderr, qr/ERROR:  55000/, 'nor charged');
}
on($main, 'anna', "UPDATE apikey_limits SET amount = 5 WHERE id = '$limit{project}'");
$main->wait_for_catchup($standby);
is(spend($standby, '{"words": 5}', undef, $warm), 'rate_limited|project', 'a change is seen in a warm session');
on($main, 'anna', "SELECT apikey_limit_drop('$limit{project}')");
$main->wait_for_catchup($standby);
is(spend($standby, '{"words": 5000}', undef, $warm), 'valid|', 'and a drop');
$warm->quit;
$limit{project} = set('anna', "'words', 100, '31 days', path => 'acme/pay'");

# A dump: limits, what is left of quotas and balances, and the history; those of
# a dropped role stay behind.
$main->safe_psql('postgres', 'DROP OWNED BY leaves; DROP ROLE leaves; CREATE ROLE leaves; SELECT apikey_flush()');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init;
$restored->append_conf('postgresql.conf', $conf);
$restored->start;
# Other roles first, so that their OIDs are others' here.
$restored->safe_psql('postgres', 'CREATE ROLE x; CREATE ROLE y; CREATE ROLE z; CREATE ROLE anna; CREATE ROLE leaves');
for my $format ('plain', 'custom')
{
	$main->command_ok([ 'pg_dump', "--format=$format", '-f', "$dir/$format", 'postgres' ], "dump, $format");
	$restored->safe_psql('postgres', 'DROP EXTENSION IF EXISTS apikey');
	$restored->command_ok($format eq 'plain' ? [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/$format", 'postgres' ] :
		[ 'pg_restore', '--exit-on-error', '-d', 'postgres', "$dir/$format" ], "restore, $format");
	my $there = $main->safe_psql('postgres', $list =~ s/FROM apikey_limits/FROM apikey_limits WHERE role_name IS DISTINCT FROM 'leaves'/r);
	is($restored->safe_psql('postgres', $list), $there, "the same limits, $format");
	like($there, qr/^anna\|carl\|words\|rate\|7\|/m, 'a subject\'s is its role\'s');
	# What was leased here when it was dumped is lost to the customer.
	my ($quota, $balance) = split / /, $restored->safe_psql('postgres', "SELECT string_agg(remaining::text, ' ' ORDER BY created_at) FROM apikey_limits WHERE unit = 'tokens'");
	ok($quota > 0 && $quota <= 700 && $balance > 0 && $balance <= 200, "no more is left than was, $format: $quota, $balance");
	is($restored->safe_psql('postgres', $history), $main->safe_psql('postgres', $history), "the history, $format");
	is(spend($restored, '{"words": 101}'), 'rate_limited|project', "they bind, $format");
	is(spend($restored, '{"words": 8}', $own), 'rate_limited|subject', 'a subject\'s, too');
	ok($restored->poll_query_until('postgres', "SELECT code = 'exhausted' FROM apikey_verify('$key', project => 'acme', cost => 0, costs => '{\"tokens\": 501}')"), "as far as is left, $format");
	is($restored->safe_psql('postgres', "SELECT apikey_limit_add('$limit{key}', 1) > 0"), 't', "and may be added to, $format");
}

# A logical subscriber: what is published of limits binds there, each server's
# rates by themselves; what has no account there cannot be decided.
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init;
$subscriber->append_conf('postgresql.conf', "$conf\nwal_retrieve_retry_interval = 100ms");
$subscriber->start;
$subscriber->safe_psql('postgres', 'CREATE ROLE x; CREATE ROLE y; CREATE ROLE anna; CREATE EXTENSION apikey CASCADE');
set('leaves', "'words', 9, '31 days', subject => 'carl'");
$main->safe_psql('postgres', 'CREATE PUBLICATION keys FOR TABLE apikey_key, apikey_digest, apikey_revocation, apikey_organization, apikey_project, apikey_member, apikey_limit');
my $conninfo = $main->connstr . ' dbname=postgres';
# Who holds a limit and is not here stops the copy, until it is, as a key does.
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION keys CONNECTION '$conninfo' PUBLICATION keys");
ok($subscriber->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_subscription_rel WHERE srsubstate <> 'r'"), 'copying');
for (1 .. 1800) { last if slurp_file($subscriber->logfile) =~ /role "leaves" does not exist/; select(undef, undef, undef, 0.1) }
like(slurp_file($subscriber->logfile), qr/role "leaves" does not exist/, 'a role that is not here');
$subscriber->safe_psql('postgres', 'CREATE ROLE leaves');
$subscriber->wait_for_subscription_sync($main, 'keys');
$warm = $subscriber->background_psql('postgres');
# What was the dropped role's is nobody's.
my $standing = $list =~ s/FROM apikey_limits/FROM apikey_limits WHERE created_by <> 'leaves' OR amount = 9/r;
is($subscriber->safe_psql('postgres', $standing), $main->safe_psql('postgres', $standing), 'what has arrived');
is($subscriber->safe_psql('postgres', "SELECT role_name IS NULL FROM apikey_limits WHERE id = '$limit{leaves}'"), 't', 'of a dropped role');
is(spend($subscriber, '{"words": 101}', undef, $warm), 'rate_limited|project', 'a rate binds');
is(spend($subscriber, '{"words": 100}', undef, $warm), 'valid|', 'all of it');
is(lefts($main) =~ s/.*words (\d+)\z/$1/sr ne '0' ? 'own' : 'shared', 'own', 'of its own');
is(spend($subscriber, '{"tokens": 1}', undef, $warm), 'unavailable|', 'a quota whose account is the publisher\'s');
is(spend($subscriber, '{"calls": 1}', undef, $warm), 'unavailable|', 'a rate that servers share');
is($subscriber->safe_psql('postgres', "SELECT remaining IS NULL FROM apikey_limits WHERE id = '$shared'"), 't', 'of which nobody knows there what is left');
is(spend($subscriber, '{"words": 7}', $own, $warm), 'valid|', 'of a subject');
is(spend($subscriber, '{"words": 1}', $own, $warm), 'rate_limited|subject', 'by the role\'s name');
on($main, 'anna', "UPDATE apikey_limits SET amount = 50 WHERE id = '$limit{there}'");
$main->wait_for_catchup('keys');
is($subscriber->safe_psql('postgres', "SELECT amount FROM apikey_limits WHERE id = '$limit{there}'"), '50', 'a change arrives');
is(spend($subscriber, '{"images": 50}', undef, $warm), 'valid|', 'and is seen in a warm session');
on($main, 'anna', "SELECT apikey_limit_drop('$limit{there}'), apikey_limit_drop('$limit{organization}'), apikey_limit_drop('$limit{key}')");
$main->wait_for_catchup('keys');
is(spend($subscriber, '{"images": 50, "tokens": 1}', undef, $warm), 'valid|', 'so is a drop');
# A rotation arrives whole: both keys draw on one state there, too.
my $short = on($main, 'anna', "SELECT apikey_create('short', 'acme/pay', rate_limit => 3, rate_window => '31 days')");
set('anna', "'clips', 3, '31 days', key => apikey_id('$short')");
$main->wait_for_catchup('keys');
my $short_spend = sub { return $warm->query_safe("SELECT code FROM apikey_verify('$_[0]', project => 'acme', costs => '{\"clips\": 1}')") };
is($short_spend->($short), 'valid', 'before the rotation');
my $next = on($main, 'anna', "SELECT apikey_rotate(apikey_id('$short'), '1 hour')");
$main->wait_for_catchup('keys');
is(join(' ', map { $short_spend->($_) } $next, $short, $next, $short), 'valid valid rate_limited rate_limited', 'and after it');
$warm->quit;
# In binary what is of no role here is nobody's, and told of.
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION keys DISABLE');
ok($subscriber->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_subscription WHERE pid IS NOT NULL"), 'stopped');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION keys SET (binary = true); ALTER SUBSCRIPTION keys ENABLE');
$main->safe_psql('postgres', 'CREATE ROLE elsewhere');
my $not = set('elsewhere', "'words', 5, '31 days', subject => 'carl'");
my $after = set('anna', "'clips', 5, '31 days', subject => 'carl'");
$main->wait_for_catchup('keys');
is($subscriber->safe_psql('postgres', "SELECT (SELECT role_name IS NULL FROM apikey_limits WHERE id = '$not'), (SELECT role_name FROM apikey_limits WHERE id = '$after')"), 't|anna', 'in binary');
like(slurp_file($subscriber->logfile), qr/a row of table "apikey_limit" is that of no role here/, 'is told');

# What is asked of the standby goes on once it is promoted: with what is left.
$_->stop for $restored, $subscriber;
$main->wait_for_catchup($standby);
my $budget = set('anna', "'budget', 300, NULL, 'balance', path => 'acme'");
is(spend($main, '{"budget": 100}'), 'valid|', 'before the switch');
$main->stop;
$standby->promote;
my $left = $standby->safe_psql('postgres', "SELECT remaining FROM apikey_limits WHERE id = '$budget'");
cmp_ok($left, '<=', 200, 'no more than was left');
ok($standby->poll_query_until('postgres', "SELECT valid FROM apikey_verify('$key', project => 'acme', cost => 0, costs => '{\"budget\": $left}')"), 'which may be spent there') if $left > 0;
is($standby->safe_psql('postgres', "SELECT code FROM apikey_verify('$key', project => 'acme', cost => 0, costs => '{\"budget\": 200}')") ne 'valid', 1, 'once');
$standby->stop;
done_testing();
