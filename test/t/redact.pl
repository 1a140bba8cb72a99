# Redaction: no key in the server's log, of any format, nor in what other
# sessions see of a running statement; and nothing else changed.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'auto_explain, pg_stat_statements, apikey'
logging_collector = on
log_directory = 'log'
log_filename = 'server.log'
log_destination = 'stderr,csvlog,jsonlog'
log_min_messages = notice
log_min_error_statement = notice
log_error_verbosity = verbose
log_statement = all
log_min_duration_statement = 0
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
auto_explain.log_min_duration = 0
auto_explain.log_analyze = on
auto_explain.log_verbose = on
auto_explain.log_nested_statements = on
max_parallel_workers_per_gather = 2
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE; CREATE EXTENSION pg_stat_statements; CREATE ROLE mallory; CREATE TABLE t (id integer PRIMARY KEY, k text UNIQUE)');
my %log = map { $_ => $node->data_dir . "/log/server.$_" } qw(log csv json);
my $key = $node->safe_psql('postgres', q{SELECT apikey_create('plain')});
my $long = $node->safe_psql('postgres', q{SELECT apikey_create('long', prefix => 'a_prefix_of_20_chars')});
my $mask = 'ak_...' . substr $key, -4;
my $long_mask = 'a_prefix_of_20_chars_...' . substr $long, -4;

# Does a text hold eight characters or more of a key's secret?
sub secret_in
{
	my ($text, $of) = @_;
	my $secret = substr $of, -39;
	return scalar grep { index($text, substr $secret, $_, 8) >= 0 } 0 .. length($secret) - 8;
}

# What each log has got since the last call: waits until it has a last line.
my ($marks, %seen) = (0);
sub logged
{
	my $mark = 'mark ' . ++$marks . ' ends';
	$node->safe_psql('postgres', "DO \$\$ BEGIN RAISE LOG '%', 'mark ' || $marks || ' ends'; END \$\$");
	my %new;
	for my $format (sort keys %log)
	{
		for (1 .. 18000)
		{
			$new{$format} = slurp_file($log{$format}, $seen{$format} // 0);
			last if index($new{$format}, $mark) >= 0;
			usleep(10_000);
		}
		$seen{$format} += length $new{$format};
	}
	return %new;
}

# No key in any log, though there was one to be masked.
sub no_key
{
	my ($what, $expected) = @_;
	my %new = logged();
	for my $format (sort keys %new)
	{
		is(join("\n", grep { secret_in($_, $key) || secret_in($_, $long) } split /\n/, $new{$format}), '', "$what: no key in $format");
		cmp_ok(scalar(() = $new{$format} =~ /a[a-z0-9_]*_\.\.\./g), '>=', $expected, "$what: masked in $format");
	}
	return %new;
}

sub pgbench
{
	my ($mode, $script, @options) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/script.sql';
	unlink $file;
	append_to_file($file, "$script\n");
	return ('pgbench', '-n', '-t', 1, '-M', $mode, '-f', $file, '-D', "key=$key", '-D', "long=$long",
		@options, $node->connstr('postgres'));
}

sub run_pgbench { IPC::Run::run([ pgbench(@_) ], '>', \my $out, '2>', \my $err) }
logged();

# Literals: statements, errors, their context, and what the plan shows.
my @statements = (
	"SELECT code FROM apikey_verify('$key')",
	"SELECT apikey_check('$key'), apikey_check('$long')",
	"SELECT '$key'::integer",
	"SELECT 'https://example.org/?key=$key&x=1', '\"$long\"', '($key,$key$key)', 'xyz_$key', '$key' '0123'",
	"SELECT \"$key\"",
	"SELECT 1 FROM \"$key\".t",
	"SELECT x.\"$key\" FROM t x",
	"SELECT \"$key\"(1)",
	"SELECT $key",
	"SELECT no_such_function('$key'",
	"INSERT INTO t VALUES (1, '$key'), (2, '$key')",
	"INSERT INTO t VALUES (NULL, '$long')",
	"DO \$\$ BEGIN RAISE LOG 'log %', '$key'; RAISE NOTICE 'notice' USING DETAIL = '$key', HINT = '$long'; END \$\$",
	"DO \$\$ BEGIN PERFORM '$key'::integer; END \$\$",
	"DO \$\$ BEGIN EXECUTE 'SELECT 1/0, ''$long'''; END \$\$",
	"DO \$\$ BEGIN RAISE EXCEPTION '%', '$key'; EXCEPTION WHEN OTHERS THEN RAISE WARNING 'caught %', SQLERRM; END \$\$",
	"PREPARE p(text) AS SELECT count(*) FROM t WHERE k = \$1; EXECUTE p('$key'); EXECUTE p('$long'); DEALLOCATE p",
	"BEGIN; DECLARE c CURSOR FOR SELECT '$key'; FETCH c; MOVE c; COMMIT",
	"CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN RETURN (SELECT k FROM t WHERE k = '$key'); END \$\$; SELECT f()",
	"SELECT apikey_self_revoke('$key', E'\\n')",
	"SELECT * FROM apikey_verify('$key', cost => -1)",
	"COMMENT ON TABLE t IS '$key'",
	"SET application_name = 'x'; SET search_path = '$key'; RESET search_path",
	"COPY t FROM STDIN;\n1\t$key\tone too many\n\\.\n",
	"COPY t FROM STDIN;\nnumber $key\tx\n\\.\n",
	"SELECT '[$key'::json",
	"SELECT '{\"key\": \"$key\", oops}'::jsonb",
	"SELECT '{\"\": \"$key\"}'::jsonb ->> '$key'");
for my $statement (@statements)
{
	my ($result, $out, $error) = $node->psql('postgres', $statement, on_error_stop => 0);
	$error = join "\n", grep { !/LINE 1/ } split /\n/, $error;
	ok(!secret_in($error, $key), 'no key in what the client is told') if $error =~ /ERROR/;
}
my %new = no_key('literals', 2 * @statements);
like($new{log}, qr/STATEMENT:  SELECT '\Q$mask\E'::integer/, 'the statement of an error');
like($new{log}, qr/invalid input syntax for type integer: "\Q$mask\E"/, 'its message');
like($new{log}, qr/CONTEXT:  .*SQL statement "SELECT 1\/0, '\Q$long_mask\E'"|QUERY:  SELECT 1\/0, '\Q$long_mask\E'/s, 'its context');
like($new{log}, qr/CONTEXT:  COPY t, line 1, column id: "number \Q$mask\E"/, 'COPY');
like($new{log}, qr/DETAIL:  Key \(k\)=\(\Q$mask\E\) already exists/, 'a key that is there already');
like($new{log}, qr/DETAIL:  Failing row contains \(null, \Q$long_mask\E\)|DETAIL:  Failing row contains \(null, a_prefix_of_20_chars_\.\.\.\)/, 'a row that is shown in part');
like($new{log}, qr/column "ak_\.\.\." does not exist/, 'a name that was cut');
like($new{log}, qr/relation "ak_\.\.\.\.t" does not exist/, 'in a longer one');
like($new{log}, qr/column x\.ak_\.\.\. does not exist/, 'without quotes');
like($new{log}, qr/function ak_\.\.\.\(integer\) does not exist/, 'of a function');
like($new{log}, qr/key=\Q$mask\E&x=1', '"\Q$long_mask\E"', '\(\Q$mask,$mask$mask\E\)', 'xyz_\Q$mask\E', '\Q$mask\E' '0123'/, 'inside longer words');
like($new{log}, qr/HINT:  \Q$long_mask\E/, 'a hint');
like($new{json}, qr/"statement":"SELECT '\Q$mask\E'::integer"/, 'JSON is whole');

is($node->safe_psql('postgres', q{SELECT calls FROM pg_stat_statements WHERE query = 'SELECT code FROM apikey_verify($1)'}), '1', 'pg_stat_statements beside us');

# Parameters, whole and cut, of statements that succeed and fail.
for my $length (-1, 40, 60, 63, 80)
{
	$node->safe_psql('postgres', "ALTER SYSTEM SET log_parameter_max_length = $length;
		ALTER SYSTEM SET log_parameter_max_length_on_error = $length");
	$node->reload;
	for my $mode (qw(extended prepared))
	{
		run_pgbench($mode, "SELECT code FROM apikey_verify(:key);\nSELECT code FROM apikey_verify(:long);");
		run_pgbench($mode, "SELECT (:key || :long)::integer;");
		run_pgbench($mode, "\\startpipeline\nSELECT apikey_check(:key);\nSELECT 1 / length(left(:key, 0));\n\\endpipeline");
	}
	no_key("parameters of $length", 20);
}
run_pgbench('extended', "SELECT code FROM apikey_verify('$key');\nEXPLAIN SELECT '$long';");
no_key('literals in the extended protocol', 4);

# What is no key, or nobody could use, stays as it is, and so does other text.
my $wrong = substr($key, 0, -1) . ($key =~ /0$/ ? '1' : '0');
my @others = ($wrong, substr($key, 0, -2), substr($key, 3), ucfirst $key, 'ak' . substr($key, 3),
	'ak_' . 'z' x 61, substr($key, 0, 32) . '...', 'file_d41d8cd98f00b204e9800998ecf8427e.dat', 'x' . ' _' x 40,
	'Schlüssel ключ 密钥 🔑 _é' . substr($key, 3));
my $text = join ' | ', @others;
$node->safe_psql('postgres', "DO \$outer\$ BEGIN RAISE LOG 'others: %.', \$\$$text\$\$; END \$outer\$");
%new = logged();
like($new{$_}, qr/others: \Q$text\E\./, "look-alikes stay in $_") for qw(log csv json);
$node->safe_psql('postgres', "DO \$\$ BEGIN RAISE LOG 'ключ:%密钥é%', '$key', '$long'; END \$\$");
%new = no_key('among other characters', 2);
like($new{$_}, qr/ключ:\Q$mask\E密钥é\Q$long_mask\E/, "which stay whole in $_") for qw(log csv json);
$node->safe_psql('postgres', q{CREATE DATABASE euc ENCODING 'EUC_JP' TEMPLATE template0});
my (undef, undef, $notice) = $node->psql('euc', "SET client_encoding = 'UTF8'; DO \$\$ BEGIN RAISE NOTICE '%', 'キー${key}密'; END \$\$");
like($notice, qr/キー\Q$mask\E密/, 'in another server encoding');

# A running statement, seen from another session, in each way to run one.
sub seen_running
{
	my ($what, $command, $where, $stop) = @_;
	my $run = IPC::Run::start($command, '<', \undef, '>', \my $out, '2>', \my $err);
	ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE $where"), "$what: it runs");
	my $seen = $node->safe_psql('postgres', "SELECT query FROM pg_stat_activity WHERE $where");
	$node->safe_psql('postgres', $stop // "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE $where");
	$run->finish;
	ok(!secret_in($seen, $key), "$what: no key is seen");
	like($seen, qr/\Q$mask\E/, "$what: but its mask");
}
my $holder = $node->background_psql('postgres', on_error_stop => 0);
$holder->query_safe('BEGIN; SELECT pg_advisory_lock(1); LOCK TABLE t IN ACCESS EXCLUSIVE MODE');
my @psql = ('psql', '-X', '-d', $node->connstr('postgres'), '-c');
seen_running('simple protocol', [ @psql, "SELECT '$key', pg_advisory_lock(1)" ], "wait_event_type = 'Lock'");
seen_running('a utility statement', [ @psql, "COMMENT ON TABLE t IS '$key'" ], "wait_event_type = 'Lock'");
seen_running('a later one of several', [ @psql, "SELECT 1; SELECT '$key', pg_advisory_lock(1)" ], "wait_event_type = 'Lock'");
for my $mode (qw(extended prepared))
{
	seen_running("$mode protocol", [ pgbench($mode, "SELECT '$key', pg_advisory_lock(1);") ], "wait_event_type = 'Lock'");
	seen_running("a utility statement, $mode", [ pgbench($mode, "COMMENT ON TABLE t IS '$key';") ], "wait_event_type = 'Lock'");
}
$holder->query_safe('ROLLBACK; SELECT pg_advisory_unlock(1)');
$node->safe_psql('postgres', 'CREATE TABLE big AS SELECT g AS i FROM generate_series(1, 10000) g; ANALYZE big');
seen_running('parallel workers', [ @psql, "SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
	SET parallel_leader_participation = off", '-c', "SELECT count(*) FROM big WHERE i < 0 OR pg_sleep(3600)::text = '$key'" ],
	"backend_type = 'parallel worker' AND wait_event = 'PgSleep'",
	"SELECT pg_cancel_backend(leader_pid) FROM pg_stat_activity WHERE backend_type = 'parallel worker' LIMIT 1");
$node->safe_psql('postgres', "ALTER SYSTEM SET log_statement = 'none'");
$node->reload;
$node->safe_psql('postgres', "CREATE FUNCTION lock_now(bigint) RETURNS void LANGUAGE internal IMMUTABLE STRICT AS 'pg_advisory_lock_int8'");
$holder->query_safe('SELECT pg_advisory_lock(1)');
seen_running('while it is planned', [ @psql, "SELECT '$key', lock_now(1)" ], "wait_event_type = 'Lock'");
my $pid = $holder->query_safe('SELECT pg_backend_pid()');
$holder->query("SELECT FROM WHERE '$key'");
like($node->safe_psql('postgres', "SELECT query FROM pg_stat_activity WHERE pid = $pid"), qr/^SELECT FROM WHERE '\Q$mask\E'/, 'what does not parse');
$holder->{stderr} = '';
$holder->quit;
no_key('statements that ran', 10);

# Our own messages name no key, masked or not.
for my $call ("apikey_self_revoke('$key', E'\n')", "apikey_verify('$key', cost => -1)", "apikey_verify('$key', cost => NULL)",
	"apikey_create('$key!')", "apikey_create('a-name', prefix => '$key')", "apikey_create('a-name', scopes => ARRAY['$key '])",
	"apikey_create('a-name', project => '$key')", "apikey_project_create('$key')", "apikey_project_create('acme/$key')",
	"apikey_organization_create('$key')", "apikey_member_add('$key', 'mallory', 'admin')", "apikey_project_drop('$key', '$key')",
	"apikey_rename(apikey_id('$key'), ' $key')", "apikey_delete(apikey_id('$key'), '$key')", "apikey_revoke(apikey_id('$key'), E'$key\n')")
{
	my (undef, undef, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\nSET apikey.redact = off;\nSELECT $call");
	$error = join "\n", grep { !/LINE 1/ } split /\n/, $error;
	ok($error =~ /ERROR:  [0-9]/ && !secret_in($error, $key), 'no key in an error of ' . $call =~ s/\(.*//sr) or diag $error;
}

# The setting.
is($node->safe_psql('postgres', 'SHOW apikey.redact'), 'on', 'on by default');
(undef, undef, my $error) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nSET ROLE mallory; SET apikey.redact = off");
like($error, qr/42501/, 'not for ordinary roles to switch off');
$node->safe_psql('postgres', "SET apikey.redact = off; DO \$\$ BEGIN RAISE LOG '%', '$key'; END \$\$");
%new = logged();
like($new{$_}, qr/\Q$key\E/, "switched off: it is in $_") for qw(log csv json);
$node->stop;
done_testing();
