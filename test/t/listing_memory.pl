# What a role's listings take of memory does not grow with how long the values are
# that others have pushed upon it: projects with long terms, keys with many scopes
# and much metadata, events with long details.  Of two numbers of them the greater
# may take little more, by the most that the server process has had, as the kernel
# tells it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'no /proc' if !-r "/proc/$$/status";

my @sizes = $ENV{APIKEY_TEST_LONG} ? (500, 3_000) : (50, 350);
# Of a project an id, a path and the like are kept, 110 bytes; of a role 400, by
# PostgreSQL.  A few hundred kilobytes differ from run to run.
my $bytes = $ENV{APIKEY_TEST_LONG} ? 600 : 2_000;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding', 'UTF8', '--no-locale' ]);
# Little memory is shared, and what is returned goes to a file soon.
$node->append_conf('postgresql.conf', q{
shared_buffers = '1MB'
work_mem = '64kB'
autovacuum = off
fsync = off
});
$node->start;
sub sql { return $node->safe_psql('postgres', join ';', @_) }
sql('CREATE EXTENSION apikey CASCADE', 'CREATE ROLE anna',
	q{SELECT apikey_organization_create('evil'), apikey_project_create('evil/p0')},
	q{UPDATE apikey_projects SET members_can_view = true},
	q{SELECT apikey_member_add('evil', 'anna', 'developer')},
	# as from a dump of 0.1.0
	q{INSERT INTO apikey_event (at, event, key_id, key_owner, actor) VALUES (now(), 'created', gen_random_uuid(), 'anna'::regrole, 'anna')});

# From a number on as many projects, keys in one of them, personal keys, keys of as
# many roles, and events of as many organizations.
sub add
{
	my ($first, $last) = @_;
	my $each = "generate_series($first, $last) i";
	my $keys = sub {
		my ($project, $owner) = @_;
		return qq{INSERT INTO apikey_key (id, project, owner, role, disabled, created_at, owner_name, prefix, last_four, name, scopes, metadata)
			SELECT gen_random_uuid(), $project, ($owner)::regrole, CASE WHEN $project IS NOT NULL THEN 'developer'::apikey_role END, false, now(), $owner, 'ak', 'abcd',
				'key-' || i, array_fill(repeat('x', 200), '{1000}'), jsonb_build_object('x', repeat('x', 60000)) FROM $each};
	};
	sql(qq{INSERT INTO apikey_project (id, organization, path, created_at, members_can_view, terms, revealable)
			SELECT gen_random_uuid(), o.id, 'evil/p' || i, now(), false, repeat(chr(128512), 10000), false FROM apikey_organization o, $each},
		$keys->(q{(SELECT id FROM apikey_project WHERE path = 'evil/p0')}, q{'anna'}),
		$keys->('NULL::uuid', q{'anna'}),
		"DO \$\$ BEGIN FOR i IN $first .. $last LOOP EXECUTE 'CREATE ROLE r' || i; END LOOP; END \$\$",
		$keys->('NULL::uuid', q{'r' || i}),
		qq{INSERT INTO apikey_event (at, event, organization, place, detail, actor)
			SELECT now(), 'updated', gen_random_uuid(), 'o' || i, jsonb_build_object('x', repeat('x', 200000)), 'anna' FROM $each});
}

# What is listed, as whom, and how many there are of so many.
my @listings = (
	[ 'apikeys', 'anna', sub { 2 * $_[0] } ],
	[ "apikeys WHERE name = 'none'", 'anna', sub { 0 } ],
	[ 'apikey_projects', 'anna', sub { $_[0] + 1 } ],
	[ 'apikey_members', 'anna', sub { 2 } ],
	[ 'apikey_limits', 'anna', sub { 0 } ],
	[ 'apikey_events', 'anna', sub { 0 } ],
	[ 'apikey_usage_history', 'anna', sub { 0 } ],
	[ "apikey_purge('30 days')", 'anna', sub { 1 } ],
	[ "apikeys WHERE owner = 'r1'", undef, sub { 1 } ],
	[ "apikey_events WHERE project = 'none'", undef, sub { 0 } ],
	[ "apikey_events WHERE key_subject = 'none'", undef, sub { 0 } ]);

sub peak { my ($pid) = @_; return slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m ? $1 : die }

# By how many kilobytes a new session grows at most that lists something.
sub growth
{
	my ($from, $role, $expected) = @_;
	my $session = $node->background_psql('postgres');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	# What is shared is counted with what is its own: it has seen all of that.
	$session->query_safe(q{SET enable_seqscan = off; SELECT count(prosrc) FROM pg_proc WHERE oid > 0; RESET enable_seqscan});
	$session->query_safe("SET ROLE $role") if $role;
	my $before = peak($pid);
	is($session->query_safe("SELECT count(*) FROM $from"), $expected, "$from: as many as there are");
	my $grown = peak($pid) - $before;
	$session->quit;
	return $grown;
}

my %grown;
my $there = 0;
for my $size (@sizes)
{
	add($there + 1, $size);
	$there = $size;
	for my $listing (@listings)
	{
		my ($from, $role, $count) = @$listing;
		push @{ $grown{$from} }, growth($from, $role, $count->($size));
	}
}
for my $listing (@listings)
{
	my ($from) = @$listing;
	my ($few, $many) = @{ $grown{$from} };
	my $each = ($many - $few) * 1024 / ($sizes[1] - $sizes[0]);
	cmp_ok($each, '<', $bytes, sprintf "%s: %.0f bytes each (%d kB, %d kB)", $from, $each, $few, $many);
}
$node->stop;
done_testing();
