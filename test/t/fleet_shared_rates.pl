# A rate that servers share passes no more on all of them together than its
# bound, and is unavailable where the primary cannot be asked.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use IPC::Run;
use Fleet;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Proxy;
use Test::More;
use Time::HiRes qw(sleep time);

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '300ms'
apikey.fleet_timeout = '1s'
cluster_name = 'primary'
});
$primary->start;
$primary->safe_psql('postgres', q{CREATE EXTENSION apikey CASCADE; CREATE ROLE fleet LOGIN; SELECT apikey_grant('servers', 'fleet')});
my $key = $primary->safe_psql('postgres', q{SELECT apikey_create('shared')});
my $limit = $primary->safe_psql('postgres', "SELECT apikey_limit_set('requests', 100, '4 seconds', key => apikey_id('$key'), shared => true)");
is($primary->safe_psql('postgres', "SELECT rate_remaining FROM apikey_verify('$key', cost => 0)"), 100, 'it is full from the first');
my $own = $primary->safe_psql('postgres', q{SELECT apikey_create('own', rate_limit => 5, rate_window => '31 days')});
my $me = $primary->safe_psql('postgres', 'SELECT current_user');
# On a busy machine the primary's answer may take longer than a verification
# waits: nothing has passed then, and one asks again.
$primary->safe_psql('postgres', q{
	CREATE FUNCTION ask(key text, cost integer, OUT code text) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. 50 LOOP
			code := (SELECT v.code FROM apikey_verify(key, cost => ask.cost) v);
			EXIT WHEN code <> 'unavailable';
		END LOOP;
	END $$});

$primary->backup('backup');
my $wire = Proxy->new($primary);
my @standbys = (Fleet::member('one', $primary, $primary), Fleet::member('two', $primary, $wire));
for my $node (@standbys)
{
	my $name = $node->name;
	ok($primary->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM apikey_servers WHERE name = '$name')"), "$name has joined");
	ok($node->poll_query_until('postgres', "SELECT code IN ('valid', 'rate_limited') FROM apikey_verify('$key')"), 'and is answered');
	is($node->safe_psql('postgres', "SELECT remaining IS NULL, resets_at IS NULL FROM apikey_limits WHERE id = '$limit'"), 't|t', 'it does not know what is left');
	is($node->safe_psql('postgres', "SELECT l->'remaining' FROM apikey_verify('$key', cost => 0, costs => '{}'), jsonb_array_elements(detail->'limits') l"), 'null', 'nor tells');
}
ok($primary->poll_query_until('postgres', "SELECT rate_remaining = 100 FROM apikey_verify('$key', cost => 0)"), 'it is full');

my $asks = sub {
	my ($node, $times, $text) = @_;
	my $out = '';
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c',
			"SELECT v.code, count(*) FROM generate_series(1, $times) g, LATERAL (SELECT pg_sleep(0.005 * sign(g))) s, LATERAL ask('$text', CASE WHEN g > 0 THEN 1 END) AS v(code) GROUP BY 1" ],
		'>', \$out);
	return [ $run, \$out ];
};
my $begun = time;
my @runs = map { $asks->($_, 300, $key) } $primary, @standbys;
$_->[0]->finish for @runs;
my $took = time - $begun;
my @passed = map { my %codes = map { split /\|/ } split /\n/, ${ $_->[1] }; is(join(' ', grep { !/^(valid|rate_limited)$/ } sort keys %codes), '', 'passed or not'); $codes{valid} // 0 } @runs;
my $total = $passed[0] + $passed[1] + $passed[2];
my $bound = 100 + ($took + 1.2) * 25;
cmp_ok($total, '<=', $bound, "in $took s no more than the bound of $bound: @passed");
cmp_ok($total, '>=', 100, 'and not less than there was');
cmp_ok($passed[$_], '>', 0, 'some of them on each') for 1, 2;

# What a call turned out to cost.
ok($primary->poll_query_until('postgres', "SELECT rate_remaining > 90 FROM apikey_verify('$key', cost => 0)"), 'it fills');
# Refused then, too, it has charged nothing, and says to charge again.
ok($standbys[0]->poll_query_until('postgres', "SELECT apikey_charge(apikey_id('$key'), '{\"requests\": 150}', owner => '$me') IS NOT NULL"), 'a charge');
is($primary->safe_psql('postgres', "SELECT code FROM apikey_verify('$key')"), 'rate_limited', 'a charge on a standby is the primary\'s debt');

# Cut off.
$primary->stop('immediate');
ok($standbys[0]->poll_query_until('postgres', "SELECT code = 'unavailable' FROM apikey_verify('$key')"), 'it is unavailable');
is($standbys[0]->safe_psql('postgres', "SELECT code FROM apikey_verify('$own')"), 'valid', 'what is not shared goes on');
$primary->start;
ok($standbys[0]->poll_query_until('postgres', "SELECT code = 'valid' FROM apikey_verify('$key')"), 'it is there again');

# What a primary was asked that does not answer keeps no worker busy after a
# promotion.
my $promoted = $standbys[1];
$promoted->append_conf('postgresql.conf', "apikey.flush_interval = '1h'\napikey.fleet_interval = '300ms'\napikey.fleet_timeout = '60s'");
$promoted->reload;
my $worker = q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'apikey worker' AND datname IS NOT NULL};
ok($promoted->poll_query_until('postgres', "SELECT code = 'valid' FROM apikey_verify('$key')"), 'the other is answered');
$wire->hold_up;
ok($promoted->poll_query_until('postgres', "SELECT code = 'unavailable' FROM apikey_verify('$key')"), 'until nothing comes through');
is($promoted->safe_psql('postgres', "SELECT code FROM apikey_verify('$key')"), 'unavailable', 'and goes on asking') for 1 .. 2;
$primary->stop('immediate');
$promoted->promote;
like($promoted->safe_psql('postgres', "SELECT ask('$key', 1)"), qr/^(valid|rate_limited)$/, 'promoted, it has the rate');
sleep 2;
my %there = (t => 0, f => 0);
for (1 .. 30)
{
	$there{ $promoted->safe_psql('postgres', $worker) }++;
	sleep 0.1;
}
cmp_ok($there{f}, '>', 0, 'no worker stays for what it has not');
$wire->break_off;
$_->stop for @standbys;
done_testing();
