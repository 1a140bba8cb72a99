# Without the library preloaded: from PostgreSQL 17 on uses are counted and rate
# limits held in memory that the first session makes, and a worker that it starts
# writes them; nothing is lost when sessions end or the server is stopped.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
apikey.dynamic_shared_memory = on
apikey.flush_interval = '1h'
autovacuum = off
restart_after_crash = on
wal_receiver_status_interval = 1
});
$node->start;
plan skip_all => 'not here: before PostgreSQL 17 no shared memory is had without preloading'
	if $node->safe_psql('postgres', 'SHOW server_version_num') < 170000;

sub sql { return $node->safe_psql('postgres', @_) }
sub value { my ($key, $column) = @_; return sql("SELECT $column FROM apikeys WHERE name = '$key'") }
sub written { my ($key) = @_; return sql("SELECT COALESCE(sum(u.use_count), 0) FROM apikey_usage u JOIN apikey_key USING (id) WHERE name = '$key'") }
my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'apikey worker'};
my $tracked = q{SELECT substring(value, '^\d+') FROM apikey_health() WHERE name = 'slots'};

sql('CREATE EXTENSION apikey CASCADE; CREATE ROLE anna; GRANT pg_monitor TO anna');
my %key = map { $_ => sql("SELECT apikey_create('$_', scopes => '{a}')") } qw(one two);
$key{limited} = sql(q{SELECT apikey_create('limited', rate_limit => 3, rate_window => '1 hour')});
$key{paid} = sql(q{SELECT apikey_create('paid', credits => 5)});

# Counted at once, by every session, and not in the tables yet.
is(sql("SELECT string_agg(code, ' ') FROM (SELECT (apikey_verify('$key{limited}')).code FROM generate_series(1, 2)) s"), 'valid valid', 'a rate limit is held');
is(sql("SELECT string_agg(code, ' ') FROM (SELECT (apikey_verify('$key{limited}')).code FROM generate_series(1, 2)) s"), 'valid rate_limited', 'by all sessions together');
sql("SELECT code FROM apikey_verify('$key{one}', client_addr => '192.0.2.7'); SELECT code FROM apikey_verify('$key{one}', scopes => '{b}'); SELECT code FROM apikey_verify('nonsense')");
is(value('one', 'use_count, denied_count, last_used_at IS NOT NULL, last_used_addr'), '1|1|t|192.0.2.7', 'counts, time and address');
is(sql('SELECT count(*) FROM apikey_usage'), '0', 'not in the table yet');
is(sql(q{SELECT verifications ->> 'valid', verifications ->> 'malformed', not_attributed FROM apikey_stats}), '4|1|0', 'apikey_stats');
is( sql(qq{BEGIN READ ONLY; SELECT apikey_check('$key{one}') \\g /dev/null
		ROLLBACK; SELECT use_count FROM apikeys WHERE name = 'one'}), '2', 'counted in a read-only transaction that is rolled back');
is(sql($workers), '1', 'a worker');
sql('SELECT apikey_flush()');
is(written('one') . ' ' . written('limited'), '2 3', 'apikey_flush() writes them');
is(value('one', 'use_count'), '2', 'and they are counted once');
is(sql(q{SELECT count(*) FROM apikey_events WHERE event = 'denied'}), '2', 'events of refusals');
is(sql(q{SELECT sum(use_count), sum((SELECT sum(value::int) FROM jsonb_each_text(denied))) FROM apikey_usage_history}), '5|2', 'the history of use');

# What still needs the library preloaded.
is( sql(qq{BEGIN; SELECT credits FROM apikey_verify('$key{paid}'); ROLLBACK; SELECT credits FROM apikeys WHERE name = 'paid'}),
	"4\n5", 'credits are spent in their row');
my ($status, $out, $err) = $node->psql('postgres', q{SELECT apikey_limit_set('requests', 1, '1 day', key => id) FROM apikeys WHERE name = 'one'});
like($err, qr/limits need the library "apikey" to be preloaded/, 'limits of other kinds are refused');
like(sql(q{SELECT hint FROM apikey_health() WHERE name = 'preloaded'}), qr/only rate_limit is held/, 'health says so');
is(sql(q{SELECT string_agg(severity || ' ' || value, ', ') FROM apikey_health() WHERE name IN ('worker', 'leases', 'notices')}), 'ok running, ok 0 leases, 0 credits, ok 0 waiting, 0 dropped', 'and what is there');

# In a parallel query.
sql(q{CREATE TABLE many AS SELECT FROM generate_series(1, 10000); ANALYZE many});
my $before = value('two', 'use_count');
is( sql(qq{SET debug_parallel_query = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
		SELECT count(*) FROM many WHERE apikey_check('$key{two}')}), '10000', 'verified by parallel workers');
is(value('two', 'use_count') - $before, '10000', 'each counted once');

# By itself, and where its session has ended.
sql(q{ALTER SYSTEM SET apikey.flush_interval = '200ms'; SELECT pg_reload_conf()});
sql("SELECT apikey_check('$key{one}')");
ok($node->poll_query_until('template1', "$workers AND datname = 'postgres'", '0'), 'the worker ends when nobody is here');
is(written('one'), '3', 'and has written all');
is(sql($workers), '0', 'a session that counts nothing starts none');
is(sql($tracked), '4', 'slots stay');

# A stop, while many verify.
sql(q{ALTER SYSTEM SET apikey.flush_interval = '1h'; SELECT pg_reload_conf()});
for my $round (1 .. 3)
{
	my $use = PostgreSQL::Test::Utils::tempdir() . '/use.sql';
	append_to_file($use, "SELECT apikey_check('$key{one}');\n");
	my $counted = value('one', 'use_count');
	my ($stdout, $stderr) = ('', '');
	my $bench = IPC::Run::start([ 'pgbench', '-n', '-c', '6', '-T', '60', '-f', $use, '-h', $node->host, '-p', $node->port, 'postgres' ],
		'<', \'', '>', \$stdout, '2>', \$stderr);
	$node->poll_query_until('postgres', "SELECT use_count > $counted + 1000 FROM apikeys WHERE name = 'one'");
	$node->stop('fast');
	$bench->finish;
	my ($done) = $stdout =~ /number of transactions actually processed: (\d+)/;
	$node->start;
	my $uses = written('one') - $counted;
	ok($uses >= $done && $uses <= $done + 6, "a stop loses nothing ($done to " . ($done + 6) . ": $uses)");
}
sql("SELECT apikey_check('$key{one}')");
my $counted = value('one', 'use_count');
$node->stop('smart');
$node->start;
is(written('one'), $counted, 'nor does one that waits');
is(sql(qq{SELECT string_agg(code, ' ') FROM (SELECT (apikey_verify('$key{limited}')).code FROM generate_series(1, 4)) s}), 'valid valid valid rate_limited', 'a limit begins anew then');

# A crash, of the server and of a session.
sql('SELECT apikey_flush()');
sql("SELECT apikey_check('$key{one}')");
$node->stop('immediate');
$node->start;
is(value('one', 'use_count'), $counted, 'a crash loses what was not written');
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query("SELECT apikey_check('$key{one}')");
my $pid = $session->query('SELECT pg_backend_pid()');
kill 9, $pid;
# It is listed until the server has begun anew.
$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)");
eval { $session->quit };
is(value('one', 'use_count'), $counted, 'so does the end of a process');
sql("SELECT apikey_check('$key{one}'); SELECT apikey_flush()");
is(written('one'), $counted + 1, 'and others count on');

# The worker's end is made good.
$session = $node->background_psql('postgres');
$session->query("SELECT apikey_check('$key{one}')");
$node->poll_query_until('postgres', "$workers", '1');
$session->quit;
sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'apikey worker'");
ok($node->poll_query_until('postgres', $workers, '0'), 'a worker that is told to end does');
is(written('one'), $counted + 2, 'when all is written');
sql("SELECT apikey_check('$key{one}'); SELECT apikey_flush()");
is(written('one'), $counted + 3, 'and another one comes');

# What is dropped has nothing in memory any more; of whoever does not know of us, too.
sql('CREATE DATABASE other');
$node->safe_psql('other', q{CREATE EXTENSION apikey CASCADE; SELECT apikey_check(apikey_create('theirs'))});
my $slots = sql($tracked);
$node->safe_psql('template1', 'DROP DATABASE other');
sql("SELECT apikey_check('$key{one}'); SELECT apikey_flush()");
is(sql($tracked), $slots - 1, 'a dropped database');
my $id = sql("SELECT apikey_id('$key{limited}')");
sql("SELECT apikey_check('$key{limited}')");
$slots = sql($tracked);
sql("SELECT apikey_delete('$id', 'limited')");
is(sql($tracked), $slots - 1, 'a deleted key');
sql('CREATE DATABASE other');
$node->safe_psql('other', q{CREATE EXTENSION apikey CASCADE; SELECT apikey_check(apikey_create('theirs')); DROP EXTENSION apikey; CREATE EXTENSION apikey});
is($node->safe_psql('other', 'SELECT tracked_keys FROM apikey_stats'), '0', 'the extension');
$node->safe_psql('postgres', 'DROP DATABASE other');

# A standby holds limits, and counts; once it is promoted it writes.
$key{limited} = sql(q{SELECT apikey_create('limited', rate_limit => 3, rate_window => '1 hour')});
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->wait_for_replay_catchup($standby);
is($standby->safe_psql('postgres', qq{SELECT string_agg(code, ' ') FROM (SELECT (apikey_verify('$key{limited}')).code FROM generate_series(1, 4)) s}),
	'valid valid valid rate_limited', 'a limit on a standby');
is($standby->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'limited'}), '3', 'and counts');
is($standby->safe_psql('postgres', $workers), '0', 'no worker there');
$standby->promote;
$standby->safe_psql('postgres', "SELECT apikey_check('$key{one}'); SELECT apikey_flush()");
is($standby->safe_psql('postgres', q{SELECT u.use_count FROM apikey_usage u JOIN apikey_key k USING (id) WHERE name = 'limited'}), '3', 'promoted it writes them');
$standby->stop;

# No memory to be had: as before 17, and nothing fails.
$node->append_conf('postgresql.conf', 'dynamic_shared_memory_type = mmap');
$node->restart;
my $directory = $node->data_dir . '/pg_dynshmem';
chmod 0500, $directory;
my $offset = -s $node->logfile;
is( sql(qq{BEGIN; SELECT code FROM apikey_verify('$key{two}'); SELECT code FROM apikey_verify('$key{limited}'); SELECT (apikey_verify('$key{two}')).code; COMMIT;
		SELECT since IS NULL FROM apikey_stats}), "valid\nunavailable\nvalid\nt", 'without memory a key is verified, and a limited one unavailable');
like(slurp_file($node->logfile, $offset), qr/LOG:  no shared memory is to be had/, 'the log says why');
($status, $out, $err) = $node->psql('postgres', q{SELECT apikey_create('new', rate_limit => 1)});
like($err, qr/a rate limit needs the library "apikey" to be preloaded/, 'no limit is made');
is( sql(qq{SET debug_parallel_query = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
		SELECT count(*) FROM many WHERE apikey_check('$key{two}')}), '10000', 'nor does a parallel query fail');
is(value('two', 'last_used_at > now() - interval \'1 minute\''), 't', 'the last use is written at once');
sql("SELECT apikey_check('$key{two}')") for 1 .. 5;
is(scalar(() = slurp_file($node->logfile, $offset) =~ /no shared memory is to be had/g), 1, 'the log is told once a minute, by however many processes');
chmod 0700, $directory;
is(sql("SELECT code FROM apikey_verify('$key{limited}')"), 'valid', 'and others have it when it is there');
unlike(slurp_file($node->logfile, $offset), qr/leak|WARNING:  (?!some API keys)/, 'nothing is left behind');

# No worker to be had.
$node->append_conf('postgresql.conf', 'max_worker_processes = 0');
$node->restart;
$offset = -s $node->logfile;
is(sql("SELECT code FROM apikey_verify('$key{one}')"), 'valid', 'without a worker a key is verified');
like(slurp_file($node->logfile, $offset), qr/no worker process is free to write the use of API keys/, 'the log says so');
($status, $out, $err) = $node->psql('postgres', 'SELECT apikey_flush()');
like($err, qr/no worker process is free to write what is pending/, 'apikey_flush() fails');
is(scalar(() = slurp_file($node->logfile, $offset) =~ /no worker process is free to write the use/g), 1, 'the log is told once a minute');

# Switched off, and preloaded.
$node->append_conf('postgresql.conf', "max_worker_processes = 8\napikey.dynamic_shared_memory = off");
$node->restart;
is(sql("SELECT code FROM apikey_verify('$key{limited}'); SELECT since IS NULL FROM apikey_stats"), "unavailable\nt", 'switched off');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'");
$node->restart;
is(sql("SELECT code FROM apikey_verify('$key{limited}'); SELECT value FROM apikey_health() WHERE name = 'preloaded'"), "valid\nyes", 'preloaded');
$node->stop;
done_testing();
