# What upkeep takes of memory does not grow with what it removes: keys, members,
# projects, limits, events.  Of two sizes the greater may take no more, but for
# 4 bytes each, and for what differs from run to run; by the most that the server
# process has had, as the kernel tells it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use List::Util qw(max);

plan skip_all => 'no /proc' if !-r "/proc/$$/status";

my @sizes = $ENV{APIKEY_TEST_LONG} ? (20_000, 200_000) : (5_000, 50_000);
my $noise = 300;	# kB
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# Shared memory is small, so that it counts for little.
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.max_tracked_keys = 1000
shared_buffers = '1MB'
apikey.flush_interval = '1h'
autovacuum = off
fsync = off
});
$node->start;
sub sql { return $node->safe_psql('postgres', join ';', @_) }
sql('CREATE EXTENSION apikey CASCADE', 'CREATE ROLE anna');
# As many keys of a role, in a project or none, that ended long ago, or not.
my $keys = sub {
	my ($count, $role, $project, $expires) = @_;
	my $place = $project ? "(SELECT id FROM apikey_project WHERE path = '$project')" : 'NULL::uuid';
	return qq{
		INSERT INTO apikey_key (id, project, owner, role, disabled, created_at, expires_at, owner_name, prefix, last_four, name, scopes, metadata)
			SELECT gen_random_uuid(), $place, '$role'::regrole, CASE WHEN $place IS NOT NULL THEN 'developer'::apikey_role END, false, now() - interval '90 days', $expires, '$role', 'ak', 'abcd', 'key-' || i, '{a}', '{}'
			FROM generate_series(1, $count) i;
		INSERT INTO apikey_digest (id, digest, pepper) SELECT id, sha256(id::text::bytea), 0 FROM apikey_key WHERE NOT EXISTS (SELECT FROM apikey_digest d WHERE d.id = apikey_key.id);
		INSERT INTO apikey_usage (id, use_count, denied_count) SELECT id, 1, 0 FROM apikey_key WHERE NOT EXISTS (SELECT FROM apikey_usage u WHERE u.id = apikey_key.id)};
};
my $long_ago = q{now() - interval '60 days'};
my $me = sql('SELECT current_user');

sub peak { my ($pid) = @_; return slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m ? $1 : die }

# By how many kilobytes a session grows at most that does this.  It has done the
# same before with a few.
sub growth
{
	my ($make, $do, $role, $count) = @_;
	my $session = $node->background_psql('postgres');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	my $removed;
	my $before;
	for my $size (10, $count)
	{
		sql($make->($size));
		$session->query_safe("SET ROLE $role") if $role;
		if ($size == $count)
		{
			open my $clear, '>', "/proc/$pid/clear_refs" or die $!;
			print $clear "5\n";
			close $clear;
			$before = peak($pid);
		}
		$removed = $session->query_safe($do);
		$session->query_safe('RESET ROLE');
	}
	my $grown = peak($pid) - $before;
	$session->quit;
	return ($grown, $removed);
}

sub bounded
{
	my ($what, $make, $do, $expected, $role, $bytes) = @_;
	my (@grown, $each);
	my $start = time;
	# What is kept is kept each time; what else a process comes by is not.
	for my $try (1 .. 3)
	{
		@grown = ();
		for my $count (@sizes)
		{
			my ($grown, $removed) = growth($make, $do, $role, $count);
			push @grown, $grown;
			is($removed, $expected // $count, "$what: all of $count");
		}
		$each = max(0, $grown[1] - $grown[0] - $noise) * 1024 / ($sizes[1] - $sizes[0]);
		last if $each < ($bytes || 4);
	}
	note sprintf '%s: %d s', $what, time - $start;
	cmp_ok($each, '<', $bytes || 4, sprintf "%s: %.1f bytes each (%d kB, %d kB)", $what, $each, @grown);
}

my $purge = q{SELECT apikey_purge('30 days')};
bounded('a purge of all', sub { $keys->($_[0], 'anna', undef, $long_ago) }, $purge);
bounded('a purge of its own', sub { $keys->($_[0], 'anna', undef, $long_ago) }, $purge, undef, 'anna');
# What is to stay is looked at.
sql('CREATE FUNCTION regress_credits() RETURNS void LANGUAGE sql AS $$
		INSERT INTO apikey_credit (id, balance, granted_at) SELECT id, 1, now() FROM apikey_key WHERE credits_account IS NULL;
		UPDATE apikey_key SET credits_account = id WHERE credits_account IS NULL;
		SELECT $$');
bounded('credits that stay', sub { $keys->($_[0], 'anna', undef, 'NULL') . q{; SELECT regress_credits(); UPDATE apikey_key SET name = 'k' || id} }, $purge, '0');
sql('DELETE FROM apikey_key', 'DELETE FROM apikey_credit');
# and what somebody had when its key went
bounded('credits that are left', sub { "INSERT INTO apikey_credit (id, balance, granted_at) SELECT gen_random_uuid(), 1, now() FROM generate_series(1, $_[0])" },
	"$purge; SELECT count(*) FROM apikey_credit", "0\n0");
# Revocations beside rows: a row that a transaction has written and removed costs
# PostgreSQL some bytes, to know in which order (combo command ids).
bounded('what stands beside rows', sub { $keys->($_[0], 'anna', undef, 'NULL') . q{;
		INSERT INTO apikey_revocation (id, key_id, revoked_at, revoked_by, removed, disabled) SELECT gen_random_uuid(), id, now() - interval '60 days', 'anna', false, false FROM apikey_key} },
	$purge, undef, undef, 80);
is(sql('SELECT count(*) FROM apikey_revocation'), '0', 'which is settled');

bounded('a purge of events', sub { "DELETE FROM apikey_event; INSERT INTO apikey_event (at, event, actor) SELECT now() - interval '60 days', 'created', 'anna' FROM generate_series(1, $_[0])" },
	q{SELECT apikey_events_purge('30 days')});

my $drop = q{SELECT apikey_organization_drop('acme', 'acme')};
sql(q{ALTER SYSTEM SET apikey.name_hold = 0}, 'SELECT pg_reload_conf()');
my $acme = q{SELECT apikey_organization_create('acme')};
my $id = q{(SELECT id FROM apikey_organization WHERE name = 'acme')};
bounded("a project's keys", sub { "$acme; SELECT apikey_project_create('acme/pay'); " . $keys->($_[0], $me, 'acme/pay', 'NULL') }, $drop, 't');
bounded('members', sub { "$acme; INSERT INTO apikey_member (id, organization, subject, member, member_name, role, created_at, created_by)
		SELECT gen_random_uuid(), $id, 's' || i, 'anna'::regrole, 'anna', 'owner', now(), 'anna' FROM generate_series(1, $_[0]) i" }, $drop, 't');
bounded('projects', sub { "$acme; INSERT INTO apikey_project (id, organization, path, created_at, members_can_view, revealable)
		SELECT gen_random_uuid(), $id, 'acme/p' || i, now(), false, false FROM generate_series(1, $_[0]) i" }, $drop, 't');
bounded('limits', sub { "$acme; INSERT INTO apikey_limit (id, organization, subject, unit, kind, amount, period, shared, overdraft, starts_at, created_at, created_by)
		SELECT gen_random_uuid(), $id, 's' || i, 'call', 'rate', 1, '1 minute', false, 0, now(), now(), 'anna' FROM generate_series(1, $_[0]) i" }, $drop, 't');
# To make a member looks at all others.
bounded('one member of many', sub { "DO \$\$ BEGIN IF $id IS NULL THEN PERFORM apikey_organization_create('acme'); END IF; END \$\$;
		DELETE FROM apikey_member WHERE subject IS NOT NULL; INSERT INTO apikey_member (id, organization, subject, member, member_name, role, created_at, created_by)
		SELECT gen_random_uuid(), $id, 's' || i, 'anna'::regrole, 'anna', 'owner', now(), 'anna' FROM generate_series(1, $_[0]) i" },
	q{SELECT 1 FROM apikey_member_add('acme', 'anna', 'admin', 'another')}, '1');

# One transaction tells the others of its changes once.
my $messages = sub {
	my $begin = sql('SELECT pg_current_wal_insert_lsn()');
	sql($drop);
	my $end = sql('SELECT pg_switch_wal()');
	my ($wal) = run_command([ 'pg_waldump', '-p', $node->data_dir . '/pg_wal', '-s', $begin, '-e', $end, '-r', 'Transaction' ]);
	return scalar(() = $wal =~ /relcache \d+/g);
};
cmp_ok($messages->(), '<', 10, 'few messages');
$node->stop;
done_testing();
