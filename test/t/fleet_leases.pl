# Keys with credits, quotas and balances verify on standbys by leases of the
# primary: never more than granted, whatever is cut, ended, or promoted.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
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
apikey.fleet_heartbeat = '200ms'
apikey.fleet_timeout = '1s'
cluster_name = 'primary'
restart_after_crash = on
});
$primary->start;
$primary->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE; CREATE ROLE fleet LOGIN;
	SELECT apikey_grant('servers', 'fleet')});
my $wire = Proxy->new($primary);
$primary->backup('backup');
my ($one, $two) = map { Fleet::member($_, $primary, $wire) } 'one', 'two';

my $key = sub {
	my $made = $primary->safe_psql('postgres', "SELECT apikey_create($_[0])");
	$primary->wait_for_catchup($_, 'replay', $primary->lsn('flush')) for $one, $two;
	return $made;
};
# Verifies so often in one session, or until it is refused otherwise than for a
# moment; tells how many were valid, and the last code.
my $spend = sub {
	my ($node, $key, $count) = @_;
	return split /\|/, $node->safe_psql('postgres', qq{
		DO \$\$ DECLARE valid bigint := 0; last text; BEGIN
		FOR i IN 1 .. $count LOOP
			SELECT code INTO last FROM apikey_verify('$key');
			IF last = 'valid' THEN valid := valid + 1; ELSE EXIT; END IF;
		END LOOP;
		PERFORM set_config('my.result', valid || '|' || coalesce(last, ''), false);
		END\$\$; SELECT current_setting('my.result')});
};
# So many are valid, however often it takes a moment.
my $spends = sub {
	my ($what, $node, $key, $count) = @_;
	my ($done, $last, $end) = (0, '', time() + 60);
	while ($done < $count && time() < $end)
	{
		my ($valid, $code) = $spend->($node, $key, $count - $done);
		$done += $valid;
		last if $code ne 'valid' && $code ne 'unavailable';
		$last = $code;
	}
	is($done, $count, "$what on " . $node->name);
};
# All there is, from each server in turn.
my $drain = sub {
	my ($key, @nodes) = @_;
	my ($total, $end, %over) = (0, time() + 60);
	while (time() < $end && keys %over < @nodes)
	{
		for my $node (@nodes)
		{
			my ($valid, $code) = $spend->($node, $key, 100000);
			$total += $valid;
			if ($code eq 'exhausted') { $over{$node->name} = 1 } else { %over = () }
		}
	}
	return $total;
};

# Credits, from all at once.
my $credits = $key->("'credits', credits => 1000");
$spends->('credits', $_, $credits, 30) for $one, $two, $primary;
my $leased = $primary->safe_psql('postgres', q{SELECT count(*) FROM apikey_servers WHERE role = 'standby' AND leased <> '{}' AND leased <> '[]'});
is($leased, 2, 'what is leased is told of each server');
is($drain->($credits, $one, $two, $primary), 910, 'the rest, and not one more');

# A quota and a balance.
my $limited = $key->("'limited'");
$primary->safe_psql('postgres', qq{SELECT apikey_limit_set('requests', 300, '1 year', 'quota', key => apikey_id('$limited'));
	SELECT apikey_limit_set('requests', 400, NULL, 'balance', key => apikey_id('$limited'))});
$primary->wait_for_catchup($_, 'replay', $primary->lsn('flush')) for $one, $two;
is($drain->($limited, $one, $two), 300, 'a quota, and not one more');

# Cut off: what is leased is spent, then it is unavailable; mended, it goes on.
my $cut = $key->("'cut', credits => 1000");
$spends->('before the cut', $one, $cut, 5);
$wire->break_off;
my ($valid, $code) = $spend->($one, $cut, 100000);
is($code, 'unavailable', 'cut off, in the end unavailable');
cmp_ok($valid, '>', 0, 'but what was leased is spent');
cmp_ok($valid, '<=', 200, 'and no more');
is(($spend->($one, $cut, 1))[1], 'unavailable', 'it stays so');
$wire->mend;
$spends->('mended', $one, $cut, 5);
my $used = 10 + $valid;

# A clean stop gives back what is not spent.
$one->stop;
$used += $drain->($cut, $two, $primary);
is($used, 1000, 'what a stopped server had goes back');
$one->start;

# Whoever has many accounts locked on the primary keeps no other from going back.
my $beside = $key->("'beside', credits => 1000");
my $crowd = join ", ", map { "('$_')" } split /\n/, $primary->safe_psql('postgres',
	q{SELECT apikey_create('crowd-' || i, credits => 1000) FROM generate_series(1, 120) i});
$primary->wait_for_catchup($one, 'replay', $primary->lsn('flush'));
$one->poll_query_until('postgres', qq{SELECT count(*) = 120 FROM (VALUES $crowd) k (t), apikey_verify(t) WHERE valid})
	or die 'the crowd has no leases';
$spends->('beside a crowd', $one, $beside, 5);
my $crowding = $primary->background_psql('postgres');
$crowding->query_safe(q{BEGIN; UPDATE apikeys SET credits = 5 WHERE name LIKE 'crowd-%'});
$one->stop;
is(5 + $drain->($beside, $two, $primary), 1000, 'what is beside many locked accounts goes back');
$crowding->query_safe('ROLLBACK');
$crowding->quit;
$one->start;

# A crash forfeits it.
my $crash = $key->("'crash', credits => 1000");
$spends->('before a crash', $one, $crash, 5);
my $killed = $one->background_psql('postgres', on_error_stop => 0);
my $pid = $killed->query('SELECT pg_backend_pid()');
kill 'KILL', $pid;
$one->poll_query_until('postgres', 'SELECT true');
eval { $killed->{run}->finish };
$used = 5 + $drain->($crash, $one, $two, $primary);
cmp_ok($used, '<=', 1000, 'after a crash no more than granted');
cmp_ok($used, '>=', 800, 'and no more is lost than was leased');

# Cancelled spends come back; a rolled-back one on a standby too.
my $back = $key->("'back', credits => 50");
$spends->('to be rolled back', $one, $back, 1);
$one->safe_psql('postgres', "BEGIN; SELECT count(*) FROM generate_series(1, 20) i, apikey_verify('$back' || repeat('', i)); ROLLBACK");
is(1 + $drain->($back, $one, $two, $primary), 50, 'what is rolled back may be spent again');

# Promoted, a server goes on with what it had, and honours what the others have.
my $after = $key->("'after', credits => 1000");
$spends->('before the promotion', $_, $after, 5) for $one, $two;
$primary->wait_for_catchup($_, 'replay', $primary->lsn('flush')) for $one, $two;
$primary->stop('immediate');
$one->promote;
$wire->lead_to($one);
$two->safe_psql('postgres', 'ALTER SYSTEM SET primary_conninfo = ' . "'" . $one->connstr . "'");
$two->reload;
$spends->('after it', $_, $after, 5) for $one, $two;
$used = 20 + $drain->($after, $one, $two);
cmp_ok($used, '<=', 1000, 'after a promotion no more than granted');
cmp_ok($used, '>=', 900, 'and what the others have is honoured');

$_->stop for $one, $two;
done_testing();
