# Which databases the background work looks after: those that have the
# extension, whenever it came, and no others.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '100ms'
log_min_messages = 'debug1'
autovacuum = off
wal_level = replica
max_wal_senders = 1
});
$node->start;
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(bare later dropped);
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');

# Waits until no worker is started for ten flushes.
sub quiet
{
	my $count = -1;
	for (1 .. 30)
	{
		my $starts = () = slurp_file($node->logfile) =~ /starting background worker process "apikey worker/g;
		return 1 if $starts == $count;
		$count = $starts;
		usleep(1_000_000);
	}
	return 0;
}

# A role that has a key in a database is dropped in another.
my $number = 0;
sub marked
{
	my ($database, $copy) = @_;
	my $role = 'leaver_' . ++$number;
	$node->safe_psql($database, qq{CREATE ROLE $role; SET ROLE $role; SELECT apikey_create('one')});
	if ($copy)
	{
		quiet();
		$node->safe_psql('postgres', "CREATE DATABASE $copy TEMPLATE $database");
		$database = $copy;
	}
	$node->safe_psql('postgres', "DROP ROLE $role");
	local $PostgreSQL::Test::Utils::timeout_default = 20;
	return $node->poll_query_until($database, qq{SELECT revoked_at IS NOT NULL FROM apikey_key WHERE owner_name = '$role'});
}

# What is set for a database holds for workers that come from then on.
sub set_later
{
	$node->safe_psql('postgres', "ALTER DATABASE later $_") for 'RESET ALL', map { "SET $_" } @_;
	my $workers = q{FROM pg_stat_activity WHERE datname = 'later' AND backend_type = 'apikey worker'};
	$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) $workers");
	$node->poll_query_until('postgres', "SELECT count(*) = 0 $workers");
}

ok(quiet(), 'nothing to do, so no worker');
$node->safe_psql('postgres', 'CREATE ROLE nobody; DROP ROLE nobody');
ok(quiet(), 'once all have looked for a dropped role');

# A database that is gone is not looked for, after a reload neither.
$node->safe_psql('postgres', 'DROP DATABASE dropped');
my $offset = -s $node->logfile;
$node->reload;
ok(quiet(), 'a reload is one visit each');
unlike(slurp_file($node->logfile, $offset), qr/FATAL/, 'none of a database that is gone');

# Where the extension comes later, it is looked after.
$node->safe_psql('later', 'CREATE EXTENSION apikey CASCADE');
ok(marked('later'), 'a key of a dropped role where the extension came later');
ok(marked('later', 'copy'), 'and in a copy of that database');
$node->safe_psql('later', 'DROP EXTENSION apikey');
$node->safe_psql('postgres', 'CREATE ROLE nobody; DROP ROLE nobody');
ok(quiet(), 'where it has gone again, no more');
$node->safe_psql('later', 'CREATE EXTENSION apikey');
ok(marked('later'), 'and once it is back');

# Neither a lock, which who owns the schema can hold, nor what a database's owner
# sets for every session there holds up a worker, or ends it.
my %settings = (default_transaction_isolation => 'serializable', default_transaction_read_only => 'on', exit_on_error => 'on', lock_timeout => 1, statement_timeout => 1);
$settings{transaction_timeout} = 20 if $node->pg_version >= 17;
set_later(map { "$_ = $settings{$_}" } sort keys %settings);
{
	local $ENV{PGOPTIONS} = join ' ', map { "-c $_=" . ($settings{$_} eq 'on' ? 'off' : 0) } grep { !/isolation/ } sort keys %settings;
	my $key = $node->safe_psql('later', q{SELECT apikey_create('used')});
	my $locker = $node->background_psql('later');
	$locker->query_safe('BEGIN; LOCK TABLE apikey_usage');
	$offset = -s $node->logfile;
	is($node->safe_psql('later', "SELECT count(*) FROM apikey_verify('$key') WHERE code = 'valid'"), '1', 'a use to be written');
	my $log = '';
	for (1 .. 200)
	{
		last if ($log = slurp_file($node->logfile, $offset)) =~ /lock timeout|FATAL/;
		usleep(100_000);
	}
	like($log, qr/canceling statement due to lock timeout/, 'whatever its owner has set, a worker waits for a lock but a moment');
	unlike($log, qr/FATAL/, 'and does not end for it');
	$locker->quit;
	ok(marked('later'), 'and does its work');
}

# Nor is what it does told as another's.
my $superuser = $node->safe_psql('postgres', 'SELECT current_user');
$node->safe_psql('postgres', q{CREATE ROLE somebody; ALTER SYSTEM SET apikey.subject_setting = 'shop.customer'; SELECT pg_reload_conf()});
for my $setting ('role', 'session_authorization', 'shop.customer')
{
	set_later("$setting = 'somebody'");
	local $ENV{PGOPTIONS} = $setting eq 'role' ? '-c role=none' : $setting eq 'session_authorization' ? "-c session_authorization=$superuser" : '-c shop.customer=';
	ok(marked('later'), "a worker does its work whatever $setting is set for the database");
	is($node->safe_psql('later', "SELECT DISTINCT actor, actor_subject FROM apikey_event WHERE event = 'revoked'"), "$superuser|", 'as itself');
}

# Nor does it wait for a standby, and all other databases for it, where the server does not.
$node->safe_psql('postgres', "ALTER SYSTEM SET $_") for q{synchronous_commit = 'local'}, q{synchronous_standby_names = 'nobody'};
$node->reload;
set_later("synchronous_commit = 'remote_apply'");
{
	local $ENV{PGOPTIONS} = '-c synchronous_commit=local';
	ok(marked('later'), 'a worker does its work where a database asks for standbys that the server does not wait for');
	ok(marked('postgres'), 'and elsewhere');
}
set_later();
$node->safe_psql('postgres', "ALTER SYSTEM RESET $_") for qw(synchronous_standby_names synchronous_commit);
$node->reload;

# Databases that somebody has locked cost the others nothing, and have their turn afterwards.
my @locked = map { "locked$_" } 1 .. 5;
$node->safe_psql('postgres', "CREATE DATABASE $_") for @locked;
$node->safe_psql($_, 'CREATE EXTENSION apikey CASCADE') for @locked;
$node->safe_psql('locked1', q{CREATE ROLE waits; SET ROLE waits; SELECT apikey_create('one')});
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN');
$locker->query_safe("ALTER DATABASE $_ RENAME TO un$_") for @locked;
$node->safe_psql('postgres', 'DROP ROLE waits');
usleep(500_000);
my $start = time;
$node->safe_psql('postgres', 'SELECT apikey_flush()') for 1 .. 3;
cmp_ok(time - $start, '<', 5, 'what is to be written elsewhere is, while five databases are locked');
$locker->query_safe('ROLLBACK');
$locker->quit;
{
	local $PostgreSQL::Test::Utils::timeout_default = 20;
	ok($node->poll_query_until('locked1', 'SELECT revoked_at IS NOT NULL FROM apikey_key'), 'and so it is there, once they are not');
}
$node->stop;
done_testing();
