# What is used on standbys is counted on the primary, each use once: whatever is
# cut, ended or copied, and whoever is the primary by then.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use File::Copy;
use Fleet;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Proxy;
use Test::More;
use Time::HiRes qw(sleep time);

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '300ms'
apikey.fleet_interval = '200ms'
apikey.fleet_heartbeat = '100ms'
apikey.fleet_timeout = '1s'
cluster_name = 'primary'
restart_after_crash = on
});
$primary->start;
$primary->safe_psql('postgres', q{
	CREATE SCHEMA "Keys of all"; CREATE EXTENSION apikey SCHEMA "Keys of all" CASCADE;
	ALTER DATABASE postgres SET search_path = "Keys of all", public;
	CREATE ROLE fleet LOGIN; GRANT USAGE ON SCHEMA "Keys of all" TO PUBLIC; CREATE ROLE asks});
$primary->safe_psql('postgres', q{SELECT apikey_grant('servers', 'fleet')});
my @keys = split /\n/, $primary->safe_psql('postgres', q{SELECT apikey_create('key' || i) FROM generate_series(1, 20) i});

my $wire = Proxy->new($primary);
$primary->backup('backup');
my $standby = Fleet::member('standby', $primary, $wire);
$standby->backup('backup');
my $cascade = Fleet::member('cascade', $standby, $wire);

# With APIKEY_TEST_LONG in the environment, more of it.
my $rounds = $ENV{APIKEY_TEST_LONG} ? 200 : 8;
my $crashes = $ENV{APIKEY_TEST_LONG} ? 20 : 1;
my %used;
# So many uses of each key, and refusals of the first.
my $use = sub {
	my ($node, $count) = @_;
	$node->safe_psql('postgres', join ';', map { my $key = $keys[$_];
		"SELECT count(*) FROM generate_series(1, $count) i, apikey_verify('$key' || repeat('', i), client_addr => '192.0.2.7', owner => '@{[$ENV{PGUSER} // getpwuid($<) . '']}'::regrole) WHERE valid" } 0 .. $#keys);
	$used{$_} += $count for 0 .. $#keys;
};
my $counts = sub { return $_[0]->safe_psql('postgres', q{SELECT string_agg(use_count::text, ' ' ORDER BY substr(name, 4)::int) FROM apikeys WHERE name ~ '^key'}) };
my $expected = sub { return join ' ', map { $used{$_} // 0 } 0 .. $#keys };
my $arrives = sub {
	my ($what, $node) = (@_, $primary);
	my ($end, $got) = (time() + 180);
	while (time() < $end)
	{
		$got = $counts->($node);
		last if $got eq $expected->();
		sleep 0.1;
	}
	is($got, $expected->(), $what);
};

# From each server.
$use->($_, 3) for $primary, $standby, $cascade;
$arrives->('uses of all servers are on the primary');
$primary->poll_query_until('postgres', q{SELECT last_used_at > now() - interval '1 minute' AND last_used_addr = '192.0.2.7' FROM apikeys WHERE name = 'key1'});
# The primary's own are known when it has flushed them.
sub comes
{
	my ($query, $wanted, $what) = @_;
	ok($primary->poll_query_until('postgres', $query, $wanted), $what);
}
comes(q{SELECT string_agg(format('%s %s %s', name, role, uses), ', ' ORDER BY name) FROM apikey_servers},
	'cascade standby 60, primary primary 60, standby standby 60', 'and those of each server are known');
comes(q{SELECT sum(use_count) FROM apikey_usage_history WHERE key_name = 'key1'}, 9, 'the history too');

# Refusals: counted, in the history, and told by an event with who asked.
$standby->safe_psql('postgres', "SET ROLE asks; SELECT apikey_check('$keys[1]', owner => 'asks', client_addr => '192.0.2.9') FROM generate_series(1, 4)");
$primary->poll_query_until('postgres', q{SELECT denied_count = 4 FROM apikeys WHERE name = 'key2'}) or die;
comes(q{SELECT denied FROM apikey_usage_history WHERE key_name = 'key2'}, '{"wrong_owner": 4}', 'refusals are in the history');
$primary->poll_query_until('postgres', q{SELECT count(*) > 0 FROM apikey_events WHERE event = 'denied' AND key_name = 'key2'}) or die;
like($primary->safe_psql('postgres', q{SELECT actor, client_addr, detail FROM apikey_events WHERE event = 'denied' AND key_name = 'key2' LIMIT 1}),
	qr/^asks\|192\.0\.2\.9\|.*wrong_owner/, 'and in an event');

# A row that is locked there: the others are counted meanwhile.
my $lock = $primary->background_psql('postgres');
$lock->query_safe(q{BEGIN; SELECT 1 FROM apikey_usage WHERE id = (SELECT id FROM apikeys WHERE name = 'key1') FOR UPDATE});
$use->($standby, 1);
$primary->poll_query_until('postgres', qq{SELECT use_count = $used{1} FROM apikeys WHERE name = 'key2'}) or die;
is($primary->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'key1'}), $used{0} - 1, 'a row that is locked waits alone');
$lock->query_safe('COMMIT');
$lock->quit;
$arrives->('and is counted then');

# Answers lost, calls cut off in the middle: each use is counted once.
for my $round (1 .. $rounds)
{
	$use->($_, 1) for $standby, $cascade;
	sleep rand() * 0.3;
	$wire->${ \($round % 2 ? 'break_off' : 'hold_up') };
	$use->($standby, 1);
	sleep 1.2 if $round == 2;
	$wire->break_off if $round == 4;
	$wire->mend;
}
$arrives->('after cuts, each once');

# Cut off, what is used is shown here, and told once the wire is whole; a clean
# restart keeps it.
$wire->break_off;
$use->($standby, 2);
sleep 0.5;
$arrives->('cut off, what is used is shown here', $standby);
$standby->restart;
$use->($standby, 1);
$wire->mend;
$arrives->('a restart keeps what was not told');

# A crash loses at most what one interval gathers, and counts nothing twice.
for my $crash (1 .. $crashes)
{
	$use->($standby, 1);
	$arrives->("told before crash $crash");
	my $killed = $standby->background_psql('postgres', on_error_stop => 0);
	my $pid = $killed->query('SELECT pg_backend_pid()');
	kill 'KILL', $pid;
	$standby->poll_query_until('postgres', 'SELECT true');
	eval { $killed->{run}->finish };
	$use->($standby, 1);
	$arrives->("crash $crash counts nothing twice");
}

# A copy of a standby that was stopped in peace: what both have is counted once.
$wire->break_off;
$use->($standby, 1);
$standby->stop;
my $copy = PostgreSQL::Test::Cluster->new('copy');
PostgreSQL::Test::RecursiveCopy::copypath($standby->data_dir, $copy->data_dir);
$copy->append_conf('postgresql.conf', "port = @{[$copy->port]}\ncluster_name = 'copy'");
chmod 0700, $copy->data_dir;
$wire->mend;
$standby->start;
$copy->start;
$arrives->('of a server and its copy one is counted');
$use->($copy, 1);
$arrives->('the other is one of its own');
is($primary->safe_psql('postgres', q{SELECT string_agg(name, ' ' ORDER BY name) FROM apikey_servers WHERE name ~ 'copy'}), 'copy', 'by its own name');
my $lost = $copy->safe_psql('postgres', 'SELECT not_attributed FROM apikey_stats') + $standby->safe_psql('postgres', 'SELECT not_attributed FROM apikey_stats');
is($lost, 20, 'and what was the same is not attributed');
$copy->stop;

# The primary is lost while a report is on its way, and a standby promoted: it
# knows what was told.
$primary->wait_for_catchup($standby);
$wire->hold_up;
$use->($standby, 1);
sleep 0.5;
$primary->stop('immediate');
$standby->promote;
$use->($standby, 1);
$arrives->('promoted, it counts what it had not told', $standby);
$wire->lead_to($standby);
$use->($cascade, 1);
$arrives->('and others tell it', $standby);

$standby->stop;
$cascade->stop;
done_testing();
