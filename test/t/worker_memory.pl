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
	for my $pid (split /\n/, sql('DO $$ BEGIN PERFORM apikey_flush(); END $$', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'apikey worker'}))
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

# Has the worker done with so many keys?
sub done
{
	my ($what, $query, $count) = @_;
	for (1 .. 20)
	{
		sql('SELECT apikey_flush()');
		last if sql($query) eq $count;
	}
	is(sql($query), $count, "$what: all of $count");
}

# It has done so with a few before it does with many: from one on, up to another.
sub bounded
{
	my ($what, $do, $query) = @_;
	sql($do->(1, $few));
	done($what, $query, $few);
	# None may be there for a moment, while one gives way to the next.
	my $before;
	for (1 .. 100)
	{
		last if ($before = peak(1)) > 0;
	}
	sql($do->($few + 1, $many));
	done($what, $query, $many);
	my $after = peak();
	cmp_ok($before, '>', 0, "$what: there is a worker");
	cmp_ok($after - $before, '<', $most, sprintf "%s: it grows by %d kB", $what, $after - $before);
}
sub told { my ($event, $do) = @_; bounded($event, $do, "SELECT count(*) FROM apikey_events WHERE event = '$event'") }

add(1, $many);
told('expiring', sub { "UPDATE apikeys SET expires_at = now() + interval '1 hour' WHERE id IN (SELECT apikey_id(key) FROM keys WHERE i BETWEEN $_[0] AND $_[1])" });
told('denied', sub { "SELECT count(code) FROM keys, apikey_verify(key, scopes => '{none}') WHERE i BETWEEN $_[0] AND $_[1]" });
# as from a dump
bounded('what stands beside rows', sub { "INSERT INTO apikey_revocation (id, key_id, revoked_at, revoked_by, removed, disabled)
		SELECT gen_random_uuid(), apikey_id(key), now(), 'anna', false, false FROM keys WHERE i BETWEEN $_[0] AND $_[1]" },
	'SELECT count(*) FROM apikey_key WHERE revoked_at IS NOT NULL');
$node->stop;
done_testing();
