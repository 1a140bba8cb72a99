# Beside others: other preloaded libraries, another database, and sessions
# that are warm while the extension goes and comes.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Those that are installed.
my ($library) = run_command([ 'pg_config', '--pkglibdir' ]);
my @places = ($library, map { split /:/ } ($ENV{TEMP_CONFIG} ? slurp_file($ENV{TEMP_CONFIG}) : '') =~ /dynamic_library_path = '([^']*)'/);
my @others = grep { my $other = $_; grep { -e "$_/$other.so" } @places } qw(pg_stat_statements auto_explain pgaudit pg_cron);
note("beside @others");

# The hooks of each call those of the ones before, so both orders count.
for my $order ([ @others, 'apikey' ], [ 'apikey', @others ])
{
	my $name = $order->[0] eq 'apikey' ? 'first' : 'last';
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	$node->append_conf('postgresql.conf', 'shared_preload_libraries = ' . "'" . join(',', @$order) . "'");
	$node->append_conf('postgresql.conf', q{
apikey.flush_interval = '1h'
auto_explain.log_min_duration = 0
auto_explain.log_analyze = on
auto_explain.log_nested_statements = on
compute_query_id = on
});
	$node->append_conf('postgresql.conf', "pgaudit.log = 'all'") if grep { $_ eq 'pgaudit' } @others;
	$node->start;
	for my $other (grep { $_ ne 'auto_explain' } @others)
	{
		$node->safe_psql('postgres', "CREATE EXTENSION $other");
	}
	$node->safe_psql('postgres', 'CREATE ROLE anna; CREATE EXTENSION apikey CASCADE');
	my $key = $node->safe_psql('postgres', q{SET ROLE anna; SELECT apikey_create('one', rate_limit => 2, rate_window => '31 days')});
	is( $node->safe_psql('postgres', qq{
			SELECT code FROM apikey_verify('$key', owner => 'anna');
			SET ROLE anna;
			UPDATE apikeys SET description = 'd';
			SELECT apikey_check('$key');
			SELECT code, rate_remaining FROM apikey_verify('$key');
			SELECT use_count, denied_count FROM apikeys}),
		"valid\nt\nrate_limited|0\n2|1", "$name: create, verify, update");
	if (grep { $_ eq 'pg_stat_statements' } @others)
	{
		isnt($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_statements WHERE query ~ 'apikey_check'}), '0',
			"$name: pg_stat_statements counts on");
	}
	$node->restart;
	is( $node->safe_psql('postgres', qq{SELECT code FROM apikey_verify('$key', owner => 'anna'); SELECT use_count, denied_count FROM apikeys}),
		"rate_limited\n2|2", "$name: after a restart");
	$node->stop;
}

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
});
$node->start;
sub create { my ($database) = @_; return $node->safe_psql($database, q{SELECT apikey_create('one')}) }
sub question { my ($key) = @_; return "SELECT code FROM apikey_verify('$key')" }

# Where the extension is not, views are written as ever.
my $views = q{CREATE TABLE t (a int); CREATE VIEW v AS SELECT * FROM t; INSERT INTO v VALUES (1), (2);
	UPDATE v SET a = a + 10; DELETE FROM v WHERE a = 11; SELECT * FROM v; DROP TABLE t CASCADE;
	UPDATE pg_settings SET setting = '1MB' WHERE name = 'work_mem'; SHOW work_mem};
$node->safe_psql('postgres', 'CREATE DATABASE plain');
is($node->safe_psql('plain', $views), "12\n1MB\n1MB", 'views of a database without the extension');

# Two databases know nothing of each other's keys, and share no count.
$node->safe_psql('postgres', 'CREATE DATABASE two');
$node->safe_psql($_, 'CREATE EXTENSION apikey CASCADE') for 'postgres', 'two';
my %key = map { $_ => create($_) } 'postgres', 'two';
for my $database ('postgres', 'two')
{
	my $other = $database eq 'two' ? 'postgres' : 'two';
	is($node->safe_psql($database, question($key{$database})), 'valid', "$database: its own key");
	is($node->safe_psql($database, question($key{$other})), 'not_found', "$database: not that of the other");
	is($node->safe_psql($database, 'SELECT name, use_count FROM apikeys'), 'one|1', "$database: its counts");
}

# A copy of a database has its keys, as of then.
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE two');
my $copy = $node->background_psql('copy');
is($copy->query_safe(question($key{two})), 'valid', 'a copy knows the keys');
$node->safe_psql('two', q{SELECT apikey_revoke(id) FROM apikeys});
is($node->safe_psql('two', question($key{two})), 'revoked', 'a revocation in the template');
is($copy->query_safe(question($key{two})), 'valid', 'is not one in the copy');
$copy->quit;

# A database goes with uses that were never written; its name comes back
# without them.
$node->safe_psql('postgres', 'DROP DATABASE copy');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE two');
is($node->safe_psql('copy', 'SELECT use_count, denied_count FROM apikeys'), '0|0', 'a new database begins at nothing');
$node->safe_psql('postgres', q{ALTER SYSTEM SET apikey.flush_interval = '100ms'});
$node->reload;
ok($node->poll_query_until('two', 'SELECT use_count + denied_count > 0 FROM apikey_usage'), 'the worker goes on');
$node->safe_psql('postgres', q{ALTER SYSTEM SET apikey.flush_interval = '1h'});
$node->reload;

# The extension goes and comes under sessions that have used all of it.
my $old_key = $key{postgres};
my @sessions = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 3;
sub everywhere
{
	my ($sql) = @_;
	return join ' ', map {
		my $session = $_;
		my $result = $session->query($sql);
		$result = $1 if ($session->{stderr} // '') =~ /ERROR:\s+(\w+)/;
		$session->{stderr} = '';
		$result
	} @sessions;
}
everywhere('\set VERBOSITY sqlstate');
everywhere(q{PREPARE verify(text) AS SELECT code FROM apikey_verify($1)});
everywhere(q{PREPARE list AS SELECT name FROM apikeys ORDER BY 1 LIMIT 1});
everywhere('CREATE TEMP TABLE t (i int)');
is(everywhere("EXECUTE verify('$old_key')"), 'valid valid valid', 'warm sessions');
is(everywhere('EXECUTE list'), 'one one one', 'and their lists');
everywhere(q{SELECT apikey_create('by-' || pg_backend_pid()) IS NOT NULL});
$node->safe_psql('postgres', 'DROP EXTENSION apikey');
is(everywhere("EXECUTE verify('$old_key')"), '42883 42883 42883', 'without the extension');
is($node->safe_psql('postgres', $views), "12\n1MB\n1MB", 'where views are written again');
is(everywhere('EXECUTE list'), '42P01 42P01 42P01', 'nor the view');
$node->safe_psql('postgres', 'CREATE SCHEMA elsewhere; CREATE EXTENSION apikey SCHEMA elsewhere');
is(everywhere('SET search_path = public, elsewhere'), '  ', 'made anew in another schema');
is(everywhere("EXECUTE verify('$old_key')"), 'not_found not_found not_found', 'which knows no old key');
my $new_key = $node->safe_psql('postgres', q{SELECT elsewhere.apikey_create('one')});
is(everywhere("EXECUTE verify('$new_key')"), 'valid valid valid', 'but its own');
is(everywhere(q{SELECT elsewhere.apikey_create('again-' || pg_backend_pid()) IS NOT NULL}), 't t t', 'and makes keys');
$node->safe_psql('postgres', q{SELECT elsewhere.apikey_revoke(elsewhere.apikey_id('} . $new_key . q{'))});
is(everywhere("EXECUTE verify('$new_key')"), 'revoked revoked revoked', 'and revokes them');
$node->safe_psql('postgres', 'ALTER SCHEMA elsewhere RENAME TO "else where"');
is(everywhere('SET search_path = "else where"'), '  ', 'in a schema of another name');
is(everywhere("EXECUTE verify('$new_key')"), 'revoked revoked revoked', 'it is found again');
is(everywhere(q{SELECT apikey_rename(id, 'x' || pg_backend_pid()) IS NOT NULL FROM apikeys WHERE name = 'again-' || pg_backend_pid()}),
	't t t', 'and changed');
$node->safe_psql('postgres', 'DROP EXTENSION apikey');
$node->safe_psql('postgres', 'CREATE EXTENSION apikey SCHEMA "else where"');
is(everywhere(q{SELECT code FROM apikey_verify(apikey_create('s' || pg_backend_pid()))}), 'valid valid valid', 'and again');

# What was counted of keys that went with the extension is nobody's.
is($node->safe_psql('postgres', 'SELECT count(*) FROM "else where".apikeys WHERE use_count + denied_count <> 1'), '0', 'counts of the new keys alone');
$_->quit for @sessions;
$node->restart;
is($node->safe_psql('postgres', 'SELECT count(*) FROM "else where".apikeys WHERE use_count + denied_count <> 1'), '0', 'after a restart too');
$node->stop;
done_testing();
