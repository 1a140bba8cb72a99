# Each process counts verdicts for itself: none is lost or told twice, however
# the process ends, and whatever the next one of its number counts for.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# Few numbers, so that they soon come again.
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
max_connections = 10
max_worker_processes = 4
min_parallel_table_scan_size = 0
parallel_setup_cost = 0
parallel_tuple_cost = 0
});
$node->start;
my %key;
for my $database ('postgres', 'one', 'two')
{
	$node->safe_psql('postgres', "CREATE DATABASE $database") unless $database eq 'postgres';
	$node->safe_psql($database, 'CREATE EXTENSION apikey CASCADE');
	$key{$database} = $node->safe_psql($database, q{SELECT apikey_create('one')});
}
sub told
{
	my ($database, $who) = (@_, $node);
	return $node->safe_psql($database, q{SELECT (SELECT sum(verifications) FROM apikey_stats_codes WHERE code = 'valid') || ' ' || (SELECT use_count FROM apikeys WHERE name = 'one')});
}
my $many = 'SELECT count(*) FROM generate_series(1, %d) g WHERE apikey_check(CASE WHEN g > 0 THEN \'%s\' END)';
my %expected = map { $_ => 0 } keys %key;
sub use_key
{
	my ($database, $times) = @_;
	is($node->safe_psql($database, sprintf($many, $times, $key{$database})), $times, "$times uses in $database");
	$expected{$database} += $times;
}
sub all_told
{
	my ($what) = @_;
	is(told($_), "$expected{$_} $expected{$_}", "$what: $_") for sort keys %expected;
}

use_key('postgres', 10);
use_key('one', 100);
all_told('processes that have ended');
# The same numbers count for one database after the other.
for my $round (1 .. 6)
{
	use_key($_, $round) for sort keys %key;
}
all_told('one number after the other');

# Many at once, some of them terminated between two calls, and in one.
my @sessions = map { my $database = (sort keys %key)[$_ % 3]; { database => $database, session => $node->background_psql($database) } } 1 .. 6;
for my $n (1 .. 5)
{
	for my $s (@sessions)
	{
		$s->{session}->query_safe("SELECT apikey_check('$key{$s->{database}}')");
		$expected{ $s->{database} }++;
	}
}
all_told('processes that are there');
my $victim = shift @sessions;
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . $victim->{session}->query_safe('SELECT pg_backend_pid()') . ')');
$node->poll_query_until('postgres', q{SELECT count(*) = 5 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()});
eval { $victim->{session}->quit };
all_told('one that was terminated');
$_->{session}->quit for @sessions;
all_told('and all that ended');

# Parallel workers count, too.
$node->safe_psql('one', 'CREATE TABLE numbers AS SELECT generate_series(1, 20000) i');
my $plan = "SELECT count(*) FROM numbers WHERE apikey_check(CASE WHEN i > 0 THEN '$key{one}' END)";
$node->safe_psql('one', 'ANALYZE numbers');
is($node->safe_psql('one', $plan), '20000', 'in a table');
$expected{one} += 20000;
all_told('and in it');

# A database that is made anew begins at nothing.
$node->safe_psql('postgres', 'DROP DATABASE two');
$node->safe_psql('postgres', 'CREATE DATABASE two');
$node->safe_psql('two', 'CREATE EXTENSION apikey CASCADE');
$key{two} = $node->safe_psql('two', q{SELECT apikey_create('one')});
$expected{two} = 0;
use_key('two', 7);
use_key('one', 3);
all_told('a database that was made anew');

# What was counted of verdicts ends with the server; uses are kept.
$node->restart;
is($node->safe_psql('one', 'SELECT sum(verifications) FROM apikey_stats_codes'), '0', 'a restart begins anew');
is($node->safe_psql('one', q{SELECT use_count FROM apikeys WHERE name = 'one'}), $expected{one}, 'but for the uses');

# A process that is killed takes all others along, and the counts; what is
# counted then is exact again.
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
my $killed = $node->background_psql('one');
my $pid = $killed->query_safe('SELECT pg_backend_pid()');
$killed->query_safe("SELECT apikey_check('$key{one}')");
kill 'KILL', $pid;
eval { $killed->quit };
$node->poll_query_until('one', 'SELECT true');
my ($before) = split / /, $node->safe_psql('one', 'SELECT sum(verifications) FROM apikey_stats_codes');
is($before, '0', 'after a crash');
$node->safe_psql('one', sprintf($many, 5, $key{one}));
is($node->safe_psql('one', 'SELECT sum(verifications) FROM apikey_stats_codes'), '5', 'and what was counted since');
$node->stop;
done_testing();
