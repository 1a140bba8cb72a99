# A logical subscriber of all tables is a member, too: it counts and spends with
# the primary, and refuses where what has arrived is too old.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use Kept;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Proxy;
use Test::More;
use Time::HiRes qw(sleep time);

my $primary = PostgreSQL::Test::Cluster->new('publisher');
$primary->init(allows_streaming => 'logical');
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(allows_streaming => 'logical');
my $wire = Proxy->new($primary);
$_->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '300ms'
apikey.fleet_heartbeat = '100ms'
apikey.fleet_timeout = '1s'
apikey.fleet = on
apikey.primary_conninfo = 'host=127.0.0.1 port=@{[$wire->port]} user=fleet dbname=postgres'
cluster_name = '@{[$_->name]}'
wal_retrieve_retry_interval = '100ms'
}) for $primary, $subscriber;
$_->start, $_->safe_psql('postgres', 'CREATE ROLE fleet LOGIN') for $primary, $subscriber;
$primary->safe_psql('postgres', q{CREATE EXTENSION apikey CASCADE; SELECT apikey_grant('servers', 'fleet'); CREATE PUBLICATION keys FOR ALL TABLES});
$subscriber->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
my $key = $primary->safe_psql('postgres', q{SELECT apikey_create('one')});
my $credits = $primary->safe_psql('postgres', q{SELECT apikey_create('credits', credits => 500)});
my $rated = $primary->safe_psql('postgres', q{SELECT apikey_create('rated')});
$primary->safe_psql('postgres', "SELECT apikey_limit_set('requests', 1000, '1 day', key => apikey_id('$rated'), shared => true)");
is($primary->safe_psql('postgres', "SELECT code FROM apikey_verify('$_')"), 'valid', 'the publisher is no member, though its setting leads to itself') for $key, $credits;
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION keys CONNECTION '@{[$primary->connstr]} dbname=postgres' PUBLICATION keys");
$subscriber->wait_for_subscription_sync($primary, 'keys');
$subscriber->safe_psql('postgres', q{ALTER SYSTEM SET apikey.max_staleness = '3s'});
$subscriber->reload;

my $session = $subscriber->background_psql('postgres');
my $code = sub { return $session->query_safe("SELECT code FROM apikey_verify('$_[0]')") };
my $until = sub {
	my ($key, $wanted) = @_;
	my ($end, %seen) = (time() + 180);
	while (time() < $end)
	{
		my $now = $code->($key);
		$seen{$now} = 1;
		return join ' ', sort keys %seen if $now eq $wanted;
		sleep 0.05;
	}
	return 'never: ' . join ' ', sort keys %seen;
};
my $applies = q{SELECT count(*) = 1 FROM pg_stat_subscription WHERE subname = 'keys' AND relid IS NULL AND pid IS NOT NULL};

like($until->($key, 'valid'), qr/valid$/, 'fresh, a key is valid');

# What is used here is counted there, once, and the subscription goes on.
my $before = $primary->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'one'});
my $valid = $subscriber->safe_psql('postgres', "SELECT count(*) FROM generate_series(1, 20) i, apikey_verify('$key' || repeat('', i)) WHERE valid");
is($valid, 20, 'used');
$primary->poll_query_until('postgres', q{SELECT role = 'subscriber' AND uses >= 20 FROM apikey_servers WHERE name = 'subscriber'}) or die;
my $total = $primary->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'one'});
$primary->wait_for_catchup('keys');
$subscriber->poll_query_until('postgres', qq{SELECT use_count = $total FROM apikeys WHERE name = 'one'}) or die;
cmp_ok($total, '>=', 21, 'and counted on the primary, which the subscriber sees');
is($total, $primary->safe_psql('postgres', q{SELECT sum(uses) FROM apikey_servers}) - $primary->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'credits'}), 'each by one server');
ok($subscriber->poll_query_until('postgres', $applies), 'the subscription goes on');

# Leases of the primary.
my ($spent, $end) = (1, time() + 180);
while (time() < $end)
{
	my $now = $code->($credits);
	$spent++ if $now eq 'valid';
	last if $now eq 'exhausted';
}
# What the publisher has leased itself is left.
while (time() < $end)
{
	my $now = $primary->safe_psql('postgres', "SELECT count(*) FILTER (WHERE valid), bool_or(code = 'exhausted') FROM generate_series(1, 200) i, apikey_verify('$credits' || repeat('', i))");
	$spent += (split /\|/, $now)[0];
	last if $now =~ /t$/;
}
is($spent, 500, 'credits are spent by leases, and not one more');

# Tokens of the primary.
like($until->($rated, 'valid'), qr/valid/, 'a shared rate is spent by tokens');
is($session->query_safe('SELECT remaining IS NULL, resets_at IS NULL FROM apikey_limits'), 't|t', 'what is left of it is the primary\'s to tell');
cmp_ok($primary->safe_psql('postgres', 'SELECT remaining FROM apikey_limits'), '<', 1000, 'which does');

# No stale yes: where the subscription does not go on, or nobody can be asked.
like($until->($key, 'valid'), qr/valid/, 'fresh again');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION keys DISABLE');
$primary->safe_psql('postgres', "SELECT apikey_revoke(apikey_id('$key'))");
like($until->($key, 'unavailable'), qr/unavailable/, 'a subscription that is held up');
sleep 1;
is($code->($key), 'unavailable', 'stays so');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION keys ENABLE');
like($until->($key, 'revoked'), qr/^revoked( unavailable)?$/, 'and revoked after it');
my $other = $primary->safe_psql('postgres', q{SELECT apikey_create('other')});
like($until->($other, 'valid'), qr/valid$/, 'another key');
$wire->hold_up;
is($until->($other, 'unavailable'), 'unavailable valid', 'nobody can be asked');
$wire->mend;
is($until->($other, 'valid'), 'unavailable valid', 'until somebody can');
$subscriber->restart;
$session = $subscriber->background_psql('postgres');
like($until->($other, 'valid'), qr/valid$/, 'after a restart');

# A role without any right queues for the catalogs that tell of subscriptions, which
# it has read in another transaction.  Whoever has not looked yet cannot tell then
# what this server is: that is no error, no stale yes, and no limit's second amount.
my $spread = $primary->safe_psql('postgres', q{SELECT apikey_create('spread')});
$primary->safe_psql('postgres', "SELECT apikey_limit_set('requests', 100, '20 seconds', key => apikey_id('$spread'), shared => true)");
like($until->($spread, 'valid'), qr/valid$/, 'a shared rate that is young');
my ($before_them, @late) = $session;
$subscriber->safe_psql('postgres', 'CREATE ROLE eve');
my @eve = keep_from($subscriber, 'pg_subscription', 'pg_subscription_rel');
for my $late (map { $subscriber->background_psql('postgres', on_error_stop => 0) } 1 .. 2)
{
	push @late, $late;
	$late->query("SET lock_timeout = '200ms'");
	is($late->query("SELECT code FROM apikey_verify('$_')"), 'unavailable', 'who cannot tell what this server is') for $other, $spread;
	is($late->{stderr}, '', 'raises nothing');
	$late->{stderr} = '';
}
is($code->($other), 'valid', 'who knows it goes on');
# Nothing that arrives waits for them, of which each beat asks one.
my $ended = $primary->safe_psql('postgres', q{SELECT apikey_create('ended')});
$primary->safe_psql('postgres', "SELECT apikey_revoke(apikey_id('$ended'))");
ok($subscriber->poll_query_until('postgres', "SELECT revoked_at IS NOT NULL FROM apikeys WHERE name = 'ended'"), 'a revocation arrives');
let_go(@eve);
$late[0]->query_safe("SELECT code FROM apikey_verify('$spread')");
my $begun = time;
my $most = $primary->safe_psql('postgres', "SELECT count(*) FROM generate_series(1, 200) i, apikey_verify('$spread' || repeat('', i)) WHERE valid");
my $more = $late[0]->query_safe("SELECT count(*) FROM generate_series(1, 200) i, apikey_verify('$spread' || repeat('', i)) WHERE valid");
cmp_ok($more, '<=', 5 * (time - $begun) + 10, "let go, what the publisher has passed ($most) does not pass here once more");
$session = $late[1];
$session->query_safe('RESET lock_timeout');
like($until->($other, 'valid'), qr/valid$/, 'nor is what is fresh refused');
$wire->hold_up;
is($until->($other, 'unavailable'), 'unavailable valid', 'nor what is not');
$wire->mend;
$session = $before_them;
is($until->($other, 'valid'), 'unavailable valid', 'and all goes on');
unlike(slurp_file($subscriber->logfile), qr/ERROR:  (?!.*subscription)/, 'no error');

$_->quit for $session, @late;

# A subscriber of all tables that is no member, of the publisher's own name: the
# servers' rows that arrive harm nothing.
my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init;
$plain->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '300ms'
apikey.server_timeout = '1s'
cluster_name = 'publisher'
});
$plain->start;
$plain->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
my $uses = sub { return $_[0]->safe_psql('postgres', "SELECT count(*) FROM apikey_verify('$other') WHERE valid") };
$plain->safe_psql('postgres', "CREATE SUBSCRIPTION plain CONNECTION '@{[$primary->connstr]} dbname=postgres' PUBLICATION keys");
$plain->wait_for_subscription_sync($primary, 'plain');
is($plain->psql('postgres', q{SELECT apikey_create('local')}), 0, 'what is made there finds its place among the events that arrived');
for my $round (1 .. 3)
{
	is($uses->($_), 1, "round $round: used on " . $_->name) for $plain, $primary, $subscriber;
	ok($plain->poll_query_until('postgres', q{SELECT uses > 0 FROM apikey_servers WHERE role = 'primary'}), 'it has a row of its own');
	$primary->wait_for_catchup('plain');
}
is($plain->safe_psql('postgres', q{SELECT count(*) FROM apikey_servers WHERE role = 'primary'}), 1, 'it alone is the primary there');
# Nor does it spend what servers share, whoever keeps it from the catalogs.
$plain->safe_psql('postgres', 'CREATE ROLE eve');
@eve = keep_from($plain, 'pg_subscription_rel');
$session = $plain->background_psql('postgres', on_error_stop => 0);
$session->query("SET lock_timeout = '200ms'");
is($session->query("SELECT code FROM apikey_verify('$spread')"), 'unavailable', 'who is in no fleet cannot tell either');
is($session->{stderr}, '', 'and raises nothing');
$session->{stderr} = '';
let_go(@eve);
is($session->query_safe("SELECT code FROM apikey_verify('$spread')"), 'unavailable', 'it spends no rate of the publisher\'s');
$session->quit;
$primary->safe_psql('postgres', "SELECT apikey_revoke(apikey_id('$other'))");
$primary->wait_for_catchup('plain');
is($plain->safe_psql('postgres', "SELECT code FROM apikey_verify('$other')"), 'revoked', 'and a revocation arrives');
unlike(slurp_file($plain->logfile), qr/ERROR:  (?!.*subscription)/, 'no error');
$plain->stop;
$subscriber->stop;
$primary->stop;
done_testing();
