# What is to be told of limits on a member is told on the primary: each once, and
# the list that it stands on meanwhile does not fill.
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
apikey.flush_interval = '300ms'
apikey.fleet_timeout = '1s'
cluster_name = 'primary'
});
$primary->start;
sub sql { return $primary->safe_psql('postgres', @_) }
sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE fleet LOGIN; SELECT apikey_grant('servers', 'fleet')});
my $me = sql('SELECT current_user');
my $key = sql(q{SELECT apikey_create('limited')});
sql("SELECT apikey_limit_set('tokens', 1000, NULL, 'balance', key => apikey_id('$key'));
	SELECT apikey_limit_set('requests', 50, '1 year', 'quota', key => apikey_id('$key'))");
my $wire = Proxy->new($primary);
$primary->backup('backup');
my $standby = Fleet::member('standby', $primary, $wire);
sub on_standby { return $standby->safe_psql('postgres', @_) }

sub events { my ($event) = @_; return sql("SELECT count(*) FROM apikey_events WHERE event = '$event'") }
sub tells
{
	my ($event, $count) = @_;
	ok($primary->poll_query_until('postgres', "SELECT count(*) = $count FROM apikey_events WHERE event = '$event'"), "$count of $event");
}

# A quota that is used up there.
ok($standby->poll_query_until('postgres', "SELECT code = 'exhausted' FROM apikey_verify('$key')"), 'it is exhausted');
tells($_, 1) for 'limit_low', 'limit_exhausted';

# Charges beyond what there is; where the primary does not answer, one is refused.
my $dropped = 0;
sub charge
{
	my ($amount, $times) = @_;
	$dropped += on_standby(qq{
		DO \$\$ DECLARE charged int := 0; BEGIN
		FOR i IN 1 .. $times LOOP
			BEGIN
				PERFORM apikey_charge(apikey_id('$key'), '{"tokens": $amount}', owner => '$me');
				charged := charged + 1;
			EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
			END;
		END LOOP;
		PERFORM set_config('my.charged', charged::text, false);
		END\$\$; SELECT current_setting('my.charged')});
}
ok($standby->poll_query_until('postgres', "SELECT count(*) = 1 FROM apikey_servers WHERE name = 'standby'"), 'it has joined');
charge(1300, 1);
tells('overdrawn', 1);
is(sql(q{SELECT detail->>'dropped' FROM apikey_events WHERE event = 'overdrawn'}), 300, 'with what was dropped');

# Answers are lost meanwhile: each is told once.
for my $round (1 .. 5)
{
	charge(1, 5);
	$wire->${ \($round % 2 ? 'break_off' : 'hold_up') };
	charge(1, 2);
	$wire->break_off;
	$wire->mend;
}
tells('overdrawn', $dropped);

# More than the list has room for, in time.
charge(1, 500), tells('overdrawn', $dropped) for 1 .. 3;
cmp_ok($dropped, '>', 1024, 'all of them');

# What was not told is told after a promotion.
charge(1, 3);
$wire->break_off;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
$primary->stop('immediate');
$standby->promote;
ok($standby->poll_query_until('postgres', "SELECT count(*) = $dropped FROM apikey_events WHERE event = 'overdrawn'"), 'a promoted server tells the rest');
$standby->stop;
done_testing();
