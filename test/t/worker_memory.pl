# What the background worker takes of memory does not grow with how long the values
# of keys are: of those of which it writes events in a step, it has one at a time.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use List::Util qw(max);

plan skip_all => 'no /proc' if !-r "/proc/$$/status";

my ($few, $many) = (5, 105);
my $most = 10_000;	# kB, of a hundred keys of 260 kB that are unpacked
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
apikey.max_tracked_keys = 1000
shared_buffers = '1MB'
autovacuum = off
fsync = off
});
$node->start;
sub sql { return $node->safe_psql('postgres', join ';', @_) }
sql('CREATE EXTENSION apikey CASCADE', 'CREATE TABLE keys (i int, key text)');
sub add
{
	my ($first, $last) = @_;
	sql(qq{INSERT INTO keys SELECT i, apikey_create('key-' || i, metadata => jsonb_build_object('x', repeat('x', 60000)),
			scopes => ARRAY(SELECT lpad(j::text, 200, 'x') FROM generate_series(1, 1000) j)) FROM generate_series($first, $last) i});
}

# The most memory that a worker has had, in kB; from now on, if that is to be.  It
# may be another process by now, as good as the one before.
sub peak
{
	my ($from_now) = @_;
	my $peak = 0;
	for my $pid (split /\n/, sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'apikey worker'}))
	{
		if ($from_now && open my $clear, '>', "/proc/$pid/clear_refs")
		{
			print $clear "5\n";
			close $clear;
		}
		open my $status, '<', "/proc/$pid/status" or next;
		$peak = max($peak, map { /^VmHWM:\s+(\d+)/ ? $1 : 0 } <$status>);
	}
	return $peak;
}

# Has the worker told of so many keys?
sub told
{
	my ($event, $count) = @_;
	for (1 .. 20)
	{
		sql('SELECT apikey_flush()');
		last if sql("SELECT count(*) FROM apikey_events WHERE event = '$event'") eq $count;
	}
	is(sql("SELECT count(*) FROM apikey_events WHERE event = '$event'"), $count, "$event: all of $count");
}

# It has told of a few before it tells of many.
sub bounded
{
	my ($event, $do) = @_;
	sql($do->($few));
	told($event, $few);
	my $before = peak(1);
	sql($do->($many));
	told($event, $many);
	my $after = peak();
	cmp_ok($before, '>', 0, "$event: there is a worker");
	cmp_ok($after - $before, '<', $most, sprintf "%s: it grows by %d kB", $event, $after - $before);
}

add(1, $many);
bounded('expiring', sub { "UPDATE apikeys SET expires_at = now() + interval '1 hour' WHERE id IN (SELECT apikey_id(key) FROM keys WHERE i <= $_[0]) AND expires_at IS NULL" });
bounded('denied', sub { "SELECT count(code) FROM keys, apikey_verify(key, scopes => '{none}') WHERE i <= $_[0] AND i > " . ($_[0] == $few ? 0 : $few) });
$node->stop;
done_testing();
