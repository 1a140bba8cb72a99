# A member that is cut off and full goes on limiting: what it cannot keep until it
# is told is not attributed, and the rest is told once the wire is whole.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use Fleet;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Proxy;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.max_tracked_keys = 60
apikey.flush_interval = '300ms'
apikey.fleet_timeout = '1s'
cluster_name = 'primary'
});
$primary->start;
$primary->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE; CREATE ROLE fleet LOGIN; SELECT apikey_grant('servers', 'fleet');
	CREATE TABLE key AS SELECT i, apikey_create('key-' || i, rate_limit => 1, rate_window => '1 second') AS text FROM generate_series(0, 179) i});
my $wire = Proxy->new($primary);
$primary->backup('backup');
my $standby = Fleet::member('standby', $primary, $wire);
ok($primary->poll_query_until('postgres', q{SELECT count(*) = 1 FROM apikey_servers WHERE name = 'standby'}), 'it has joined');

# Each of 30 keys once; their rate is at rest a second later.
sub use_keys
{
	my ($from) = @_;
	is($standby->safe_psql('postgres', "SELECT v.code, count(*) FROM key, apikey_verify(text) v WHERE i / 30 = $from GROUP BY 1"), 'valid|30', "keys of part $from are limited");
	$standby->safe_psql('postgres', 'SELECT pg_sleep(1.1)');
}
sub not_attributed { return $standby->safe_psql('postgres', 'SELECT not_attributed FROM apikey_stats') }
sub arrive
{
	my ($uses, $what) = @_;
	ok($primary->poll_query_until('postgres', "SELECT sum(use_count) = $uses FROM apikeys"), $what) or
		diag $primary->safe_psql('postgres', 'SELECT sum(use_count) FROM apikeys');
}
$wire->break_off;
use_keys($_) for 0 .. 5;
my $lost = not_attributed();
cmp_ok($lost, '>', 0, 'what there is no room for is not attributed');
cmp_ok($lost, '<', 180, 'and the rest waits');
$wire->mend;
arrive(180 - $lost, 'and is told once the wire is whole');
use_keys($_) for 0 .. 1;
arrive(240 - $lost, 'as is what is used then');
is(not_attributed(), $lost, 'all of it');
$standby->stop;
$primary->stop;
done_testing();
