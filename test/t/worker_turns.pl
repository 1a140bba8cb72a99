# The worker serves every database: fair between them, whatever one of them
# holds locked, breaks, or has much of; and there are few of them.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
apikey.credits_lease = 100
max_logical_replication_workers = 0
max_connections = 60
max_worker_processes = 2
autovacuum = off
log_min_messages = debug1
});
$node->start;
my @databases = map { "d$_" } 1 .. 5;
for my $database ('postgres', @databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $database") if $database ne 'postgres';
	$node->safe_psql($database, 'CREATE EXTENSION apikey CASCADE');
}
sub create { my ($database, $name, $more) = @_; return $node->safe_psql($database, "SELECT apikey_create('$name', $more)") }
# What the tenth call says at the latest, each of which waits 100 ms at most: on
# a busy machine a process may take longer to start.
sub soon
{
	my ($database, $key, $cost, $begin) = @_;
	my $code;
	for (1 .. 10)
	{
		$code = $node->safe_psql($database, ($begin // '') . "SELECT code FROM apikey_verify('$key', cost => $cost)");
		last if $code ne 'unavailable';
	}
	return $code;
}
sub code { my ($database, $key, $begin) = @_; return soon($database, $key, 1, $begin) }
# Events of refusals, but of those that came too early.
sub denied { my ($database) = @_; return $node->safe_psql($database, "SELECT count(*) FROM apikey_events WHERE event = 'denied' AND detail->>'code' <> 'unavailable'") }
sub starts { my @lines = slurp_file($node->logfile) =~ /starting background worker process "apikey worker"/g; return scalar @lines }
sub flush_interval { $node->safe_psql('postgres', "ALTER SYSTEM SET apikey.flush_interval = '$_[0]'; SELECT pg_reload_conf()") }

note 'Many databases, and a single process for all of them.';
{
	my %key = map { $_ => create($_, 'one', 'credits => 1000') } @databases;
	my %codes;
	for my $round (1 .. 4)
	{
		$codes{ code($_, $key{$_}) }++ for @databases;
		$codes{ code($_, $key{$_}, 'BEGIN READ ONLY; ') }++ for @databases;
		# Back from the first database at once, with nothing leased.
		$node->safe_psql($_, 'SELECT apikey_flush()') for @databases;
	}
	is_deeply(\%codes, { valid => 40 }, 'each is served in time');
}

note 'What is much in one database holds up no other.';
{
	# Uses and refusals by the ten thousand, and a row that somebody has.
	$node->safe_psql('d1', q{CREATE TABLE kept AS SELECT apikey_create('key-' || i) AS key FROM generate_series(1, 12000) i});
	$node->safe_psql('d1', q{SELECT count(*) FROM kept, apikey_verify(key); SELECT count(*) FROM kept, apikey_verify(key, scopes => '{a}')});
	my $other = create('d2', 'other', 'credits => 100000');
	my $flush = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('d1'), '-c', 'SELECT apikey_flush()' ], '>&', \my $out);
	my %codes;
	my $slowest = 0;
	for (1 .. 30)
	{
		my $start = time;
		# Each needs a lease: the one before is given back, or too small.
		$codes{ soon('d2', $other, 200 + 10 * $_) }++;
		$slowest = time - $start if time - $start > $slowest;
		usleep(20_000);
	}
	is_deeply(\%codes, { valid => 30 }, 'leases while another database is flushed');
	$flush->finish;
	is($out, "\n", 'the flush comes to its end');
	is($node->safe_psql('d1', 'SELECT sum(use_count), sum(denied_count) FROM apikey_usage JOIN apikey_key USING (id) WHERE name LIKE $$key-%$$'), '12000|12000', 'with all of it');
	is(denied('d1'), 12000, 'refusals too');
}

note 'Accounts that somebody has locked hold up no others.';
{
	my @held = map { create('d3', "held-$_", 'credits => 100') } 1 .. 16;
	my $free = create('d3', 'free', 'credits => 100000');
	my $other = create('d4', 'other', 'credits => 100000');
	my $holder = $node->background_psql('d3');
	$holder->query_safe("BEGIN; SELECT apikey_credits_add(id, 1) FROM apikeys WHERE name LIKE 'held-%'");
	my @askers = map {
		IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('d3'), '-c',
				"SELECT count(*) FROM generate_series(1, 20) i, apikey_verify(CASE WHEN i > 0 THEN '$_' END) v WHERE v.valid" ], '>&', \my $out)
	} @held;
	usleep(100_000);
	my %codes;
	for (1 .. 10)
	{
		$codes{ soon('d3', $free, 200 + 10 * $_) }++;
		$codes{ soon('d4', $other, 200 + 10 * $_) }++;
	}
	is_deeply(\%codes, { valid => 20 }, 'leases while sixteen ask in vain');
	$_->finish for @askers;
	$holder->query_safe('ROLLBACK');
	$holder->quit;
}

note 'One kind of work that fails, or waits, does not keep the others from being done.';
{
	my $key = create('d5', 'broken', 'credits => 1000');
	is(code('d5', $key), 'valid', 'a use');
	is($node->safe_psql('d5', "SELECT code FROM apikey_verify('$key', scopes => '{a}')"), 'insufficient_scope', 'a refusal');
	$node->safe_psql('d5', "ALTER SEQUENCE apikey_event_id_seq MAXVALUE 1000; SELECT setval('apikey_event_id_seq', 1000)");
	$node->safe_psql('d5', 'SELECT apikey_flush()');
	is($node->safe_psql('d5', "SELECT use_count, balance FROM apikey_usage u JOIN apikey_key k USING (id) JOIN apikey_credit c ON c.id = credits_account WHERE name = 'broken'"),
		'1|999', 'the use is written, the lease given back');
	my $log = slurp_file($node->logfile);
	like($log, qr/(ERROR|WARNING):  .*sequence "apikey_event_id_seq".*\n(.*\n)?.*CONTEXT:  apikey worker: writing the events of refusals/, 'the log says what failed');
	is(denied('d5'), 0, 'which waits');
	$node->safe_psql('d5', 'ALTER SEQUENCE apikey_event_id_seq NO MAXVALUE');
	$node->safe_psql('d5', 'SELECT apikey_flush()');
	is(denied('d5'), 1, 'and is told when it can be');

	create('d5', "near-$_", "expires_at => now() + interval '1 day'") for 1 .. 3;
	$node->safe_psql('d5', 'SELECT apikey_flush()');
	$node->safe_psql('d5', "UPDATE apikeys SET expires_at = now() + interval '2 days' WHERE name LIKE 'near-%'");
	my $deleter = $node->background_psql('d5');
	$deleter->query_safe("BEGIN; SELECT apikey_delete(id, name) FROM apikeys WHERE name = 'near-1'");
	$node->safe_psql('d5', 'SELECT apikey_flush()');
	is($node->safe_psql('d5', "SELECT string_agg(key_name || ' ' || n, ', ' ORDER BY key_name) FROM (SELECT key_name, count(*) AS n FROM apikey_events WHERE event = 'expiring' GROUP BY 1) e"),
		'near-1 1, near-2 2, near-3 2', 'an open deletion silences no other key');
	$deleter->query_safe('ROLLBACK');
	$deleter->quit;
	$node->safe_psql('d5', 'SELECT apikey_flush()');
	is($node->safe_psql('d5', "SELECT count(*) FROM apikey_events WHERE event = 'expiring' AND key_name = 'near-1'"), 2, 'nor this one for good');
}

note 'A worker stays where it is called, and goes when somebody wants the database.';
{
	my $key = create('d2', 'stays', 'credits => 100000');
	my $before = starts();
	$node->safe_psql('d2', "SELECT code FROM apikey_verify('$key', cost => $_)") for map { 200 + 10 * $_ } 1 .. 30;
	cmp_ok(starts() - $before, '<=', 5, 'few are started for many leases');
	is(soon('d2', $key, 1000), 'valid', 'one more lease');
	$node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE d2');
	is(soon('d2', $key, 1100), 'valid', 'and another');
	my $start = time;
	$node->safe_psql('postgres', 'DROP DATABASE d2');
	cmp_ok(time - $start, '<', 4, 'it can be dropped at once');
	$node->safe_psql('postgres', 'DROP DATABASE copied');
}

note 'A database without the extension, or none of it any more.';
{
	$node->safe_psql('postgres', "CREATE DATABASE empty$_") for 1 .. 4;
	my $key = create('d3', 'gone', 'credits => 100');
	is(code('d3', $key), 'valid', 'a lease');
	$node->safe_psql('d3', 'DROP EXTENSION apikey');
	flush_interval('100ms');
	usleep(1_500_000);
	my $before = starts();
	usleep(2_000_000);
	cmp_ok(starts() - $before, '<=', 3, 'is not visited again and again');
	flush_interval('1h');
}

note 'No process is free.';
{
	my $key = create('postgres', 'starved', 'credits => 100');
	is($node->safe_psql('postgres', q{SELECT apikey_flush()}), '', 'there is one');
	$node->append_conf('postgresql.conf', 'max_worker_processes = 1');
	$node->restart;
	is($node->safe_psql('postgres', "SELECT code, credits FROM apikey_verify('$key')"), 'valid|99', 'the row is written instead');
	is($node->safe_psql('postgres', "SELECT code FROM apikey_verify('$key')") , 'valid', 'at once');
	is(code('postgres', $key, 'BEGIN READ ONLY; '), 'unavailable', 'where it can be');
	is($node->safe_psql('postgres', "BEGIN; SELECT code, credits FROM apikey_verify('$key', cost => 50); ROLLBACK; SELECT credits FROM apikeys WHERE name = 'starved'"), "valid|48\n98", 'and rolled back');
	like(slurp_file($node->logfile), qr/no worker process is free.*\n.*HINT:  Raise "max_worker_processes"/, 'the log says so');
	my ($rc, $out, $err) = $node->psql('postgres', 'SELECT apikey_flush()', extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($err, qr/55000.*\n.*HINT:  Raise "max_worker_processes"/, 'and so does apikey_flush()');
}
$node->stop;
done_testing();
