# Without the library preloaded, in many databases: there are few workers, whatever
# the number of databases, and each database has its turn; nobody keeps the others
# from theirs, and no worker is in anybody's way.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
apikey.dynamic_shared_memory = on
apikey.flush_interval = '1h'
max_worker_processes = 8
autovacuum = off
});
$node->start;
plan skip_all => 'not here: before PostgreSQL 17 no shared memory is had without preloading'
	if $node->safe_psql('postgres', 'SHOW server_version_num') < 170000;

my $most = 2;		# a quarter of max_worker_processes
my %key;
my @sessions;
sub flush_interval { $node->safe_psql('postgres', "ALTER SYSTEM SET apikey.flush_interval = '$_[0]'; SELECT pg_reload_conf()") }
sub create_database
{
	my ($database) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database STRATEGY file_copy");
	$node->safe_psql($database, 'CREATE EXTENSION apikey CASCADE');
	$key{$database} = $node->safe_psql($database, q{SELECT apikey_create('one', rate_limit => 1000000)});
}
sub verify { my ($database) = @_; return $node->safe_psql($database, "SELECT code FROM apikey_verify('$key{$database}')") }
sub open_session
{
	my ($database) = @_;
	my $session = $node->background_psql($database);
	$session->query_safe("SELECT code FROM apikey_verify('$key{$database}')");
	push @sessions, $session;
	return $session;
}
sub close_sessions { $_->quit for @sessions; @sessions = () }
# What is in the table: looking at it counts nothing.
sub written { return $node->safe_psql($_[0], 'SELECT COALESCE(sum(use_count), 0) FROM apikey_usage') }
my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'apikey worker'};
my $watched = 0;
# Waits until as many uses are in the tables of each; how many are missing.
sub missing
{
	my ($seconds, $uses, @databases) = @_;
	my $end = time() + $seconds;
	while (@databases && time() < $end)
	{
		my $now = $node->safe_psql('postgres', $workers);
		$watched = $now if $now > $watched;
		@databases = grep { written($_) < $uses } @databases;
		usleep(20_000);
	}
	return "@databases";
}
sub run
{
	my ($database, $sql) = @_;
	my %run = (out => '', err => '');
	$run{handle} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr($database), '-c', $sql ], '<', \'', '>', \$run{out}, '2>', \$run{err});
	return \%run;
}
# Its error, where it ends in time.
sub ended
{
	my ($run, $seconds) = @_;
	my $end = time() + $seconds;
	while ($run->{handle}->pumpable && time() < $end) { $run->{handle}->pump_nb; usleep(10_000) }
	if ($run->{handle}->pumpable) { $run->{handle}->kill_kill; return 'does not end' }
	$run->{handle}->finish;
	return $run->{err};
}

my @databases = map { "d$_" } 1 .. 12;
create_database($_) for @databases;

note 'Many databases with sessions that do nothing any more.';
open_session($_) for @databases;
is($node->safe_psql('postgres', $workers) <= $most, 1, 'few workers');
my $flush = run('d12', 'SELECT apikey_flush()');
is(ended($flush, 20), '', 'apikey_flush() where no worker is');
is(written('d12'), 1, 'writes');
like($node->safe_psql('d11', q{EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT count(*) FROM pg_class} =~ s/^/SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 4; /r),
	qr/Workers Launched: [1-4]/, 'parallel queries have workers, too');
flush_interval('1s');
is(missing(30, 1, @databases), '', 'all is written');
my @first = @databases;
for my $round (2 .. 4)
{
	$_->query_safe(q{SELECT count(*) FROM pg_class}) for @sessions;
	$sessions[$_]->query_safe("SELECT code FROM apikey_verify('$key{$first[$_]}')") for 0 .. $#first;
	is(missing(30, $round, @databases), '', 'again');
}
cmp_ok($watched, '<=', $most, 'never by more');
cmp_ok($watched, '>', 0, 'nor by none');
close_sessions();

note 'With sessions that have gone.';
flush_interval('1h');
verify($_) for @databases;
flush_interval('1s');
is(missing(30, 5, @databases), '', 'all is written');
cmp_ok($watched, '<=', $most, 'never by more');
ok($node->poll_query_until('postgres', $workers, '0'), 'and then there is none');

note 'What is locked, or broken, is nobody else\'s.';
flush_interval('1h');
verify($_) for @databases;
my @lockers;
for my $database (@databases[ 0 .. 2 ])
{
	my $locker = $node->background_psql('postgres');
	$locker->query_safe("BEGIN; ALTER DATABASE $database RENAME TO other_$database");
	push @lockers, $locker;
}
push @lockers, $node->background_psql('d4');
$lockers[-1]->query_safe('BEGIN; LOCK TABLE apikey_usage');
flush_interval('1s');
is(missing(60, 6, @databases[ 4 .. 11 ]), '', 'the others are written');
cmp_ok($watched, '<=', $most, 'by no more');
for my $locker (@lockers) { $locker->query_safe('ROLLBACK'); $locker->quit }
is(missing(60, 6, @databases), '', 'these when they can be');
ok($node->poll_query_until('postgres', $workers, '0'), 'and then there is no worker');

note 'Databases that are dropped, by somebody who does not know of us, too.';
flush_interval('1h');
verify($_) for @databases[ 0 .. 5 ];
my $offset = -s $node->logfile;
$node->safe_psql('template1', "DROP DATABASE $_") for splice @databases, 0, 3;
flush_interval('1s');
is(missing(30, 7, @databases[ 0 .. 2 ]), '', 'keep nobody waiting');
ok($node->poll_query_until('postgres', $workers, '0'), 'nor a worker');
usleep(3_000_000);
cmp_ok(scalar(() = slurp_file($node->logfile, $offset) =~ /FATAL/g), '<=', 3, 'and are not tried again');

note 'A worker that is told to end, or to let go.';
flush_interval('1h');
for my $how (qw(terminate cancel))
{
	my $session = open_session('d9');
	my $before = written('d9');
	my $killer = run('postgres', qq{
		DO \$\$ BEGIN FOR i IN 1 .. 200 LOOP
			PERFORM pg_${how}_backend(pid) FROM pg_stat_activity WHERE backend_type = 'apikey worker';
			PERFORM pg_sleep(0.02);
		END LOOP; END \$\$});
	for my $round (1 .. 5)
	{
		$session->query_safe("SELECT code FROM apikey_verify('$key{d9}')");
		$flush = run('d9', 'SELECT apikey_flush()');
		is(ended($flush, 20), '', "$how: apikey_flush() ends");
	}
	is(written('d9'), $before + 6, "$how: and all is written");
	is(ended($killer, 30), '', "$how: is done");
	close_sessions();
}
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
{
	my $session = open_session('d9');
	$node->poll_query_until('postgres', "$workers AND datname = 'd9'", '1');
	my $worker = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'apikey worker' AND datname = 'd9'});
	kill STOP => $worker;
	$flush = run('d9', 'SELECT apikey_flush()');
	usleep(300_000);
	kill KILL => $worker;
	like(ended($flush, 20), qr/terminat|closed|connection/, 'a worker that is killed ends the server\'s sessions, not apikey_flush() alone');
	eval { $_->quit } for @sessions;
	@sessions = ();
	$node->poll_query_until('postgres', 'SELECT true');
	my $before = written('d9');
	verify('d9');
	is(ended(run('d9', 'SELECT apikey_flush()'), 20), '', 'then there is another one');
	is(written('d9'), $before + 1, 'which writes');
}

note 'A lock on the tables.';
{
	my $before = written('d8');
	my $session = open_session('d8');
	my $locker = $node->background_psql('d8');
	$locker->query_safe('BEGIN; LOCK TABLE apikey_usage');
	$offset = -s $node->logfile;
	is(ended(run('d8', 'SELECT apikey_flush()'), 20), '', 'apikey_flush() does not wait for it');
	like(slurp_file($node->logfile, $offset), qr/canceling statement due to lock timeout\n(.*\n){0,2}.*apikey worker: writing the use of keys/, 'the log says so');
	close_sessions();
	$locker->query_safe('ROLLBACK');
	$locker->quit;
	flush_interval('200ms');
	is(missing(30, $before + 1, 'd8'), '', 'what is left is written when it can be, where nobody is, too');
}

note 'A single process for all.';
$node->append_conf('postgresql.conf', "max_worker_processes = 1\nmax_logical_replication_workers = 0");
$node->restart;
{
	my %before = map { $_ => written($_) } @databases;
	open_session($_) for @databases;
	for my $database (@databases[ 0 .. 2 ])
	{
		is(ended(run($database, 'SELECT apikey_flush()'), 30), '', 'apikey_flush()');
		is(written($database), $before{$database} + 1, 'writes');
	}
	close_sessions();
	# Who has had the process is followed by who waits when a session looks.
	my @missing = @databases;
	for (1 .. 60)
	{
		verify('d12');
		@missing = grep { written($_) <= $before{$_} } @missing;
		last if !@missing;
		usleep(500_000);
	}
	is("@missing", '', 'and others are written where somebody counts somewhere');
}

note 'What takes long makes way.';
$node->append_conf('postgresql.conf', q{
max_worker_processes = 8
fsync = on
commit_delay = 100000
commit_siblings = 0
});
$node->restart;
for my $who ('a stop', 'DROP DATABASE')
{
	flush_interval('1h');
	my $session = open_session('d7');
	$node->safe_psql('d7', q{
		INSERT INTO apikey_event (at, actor, event, key_id, key_name, detail)
			SELECT now() - interval '10 days', actor, event, key_id, key_name, detail FROM apikey_event, generate_series(1, 150000)
			WHERE id = (SELECT max(id) FROM apikey_event)});
	$node->safe_psql('postgres', q{ALTER SYSTEM SET apikey.event_retention = '1d'});
	flush_interval('200ms');
	ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'apikey worker' AND query ~ 'removing events'}), 'events are removed');
	my $begin = time();
	if ($who eq 'a stop')
	{
		my $open = $node->safe_psql('d7', q{SELECT count(*) > 50000 FROM apikey_event});
		$node->stop('fast');
		is($open, 't', 'many are left');
		eval { $_->quit } for @sessions;
		@sessions = ();
	}
	else
	{
		close_sessions();
		my ($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE d7');
		is($err, '', 'the database is dropped');
	}
	cmp_ok(time() - $begin, '<', 5, "$who does not wait for it");
	$node->start if $who eq 'a stop';
}
$node->safe_psql('postgres', q{ALTER SYSTEM RESET apikey.event_retention});
$node->append_conf('postgresql.conf', "fsync = off\ncommit_delay = 0");
$node->restart;

note 'Whoever may create databases leaves a place for others.';
flush_interval('1h');
for my $number (1 .. 66)
{
	create_database("many$number");
	verify("many$number");
}
is(verify('d10'), 'valid', 'a rate limit is held in one more database');
flush_interval('1s');
is(missing(120, 1, map { "many$_" } 1 .. 66), '', 'and in all of them uses are written');
cmp_ok($watched, '<=', $most, 'by no more workers');

# Before 18 a session finds the library by the name that SQL has it by alone.
SKIP:
{
	skip 'not here: from 18 on "dynamic_library_path" holds for sessions, too', 1 if $node->pg_version >= 18;
	my $directory = PostgreSQL::Test::Utils::tempdir();
	append_to_file("$directory/apikey.so", 'none');
	my $path = $node->safe_psql('postgres', 'SHOW dynamic_library_path');
	$node->append_conf('postgresql.conf', "dynamic_library_path = '$directory:\$libdir'");
	$node->restart;
	my $before = written('d10');
	my ($rc, $out, $err) = $node->psql('d10', "SELECT code FROM apikey_verify('$key{d10}'); SELECT apikey_flush()");
	is($err, '', 'the worker finds the library that the session has');
	is(written('d10'), $before + 1, 'and writes');
}
$node->stop;
done_testing();
