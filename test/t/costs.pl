# What one statement costs grows with what it changes, and no faster; to make a key
# costs the same whatever keys there were in its project.  Told by the time that a
# session has had on a processor, as the kernel counts it: other processes' work is
# none of it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use List::Util qw(min);
use Test::More;

plan skip_all => 'no /proc with times of scheduling' if !-r "/proc/$$/schedstat";

my $small = 2_000;
my $great = 8 * $small;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
autovacuum = off
fsync = off
});
$node->start;
$node->safe_psql('postgres', q{CREATE EXTENSION apikey CASCADE; CREATE ROLE member LOGIN;
	SELECT apikey_organization_create('acme'); SELECT apikey_project_create('acme/' || p) FROM unnest('{fresh,worn}'::text[]) p});

# The processor's seconds that a session has had, of which the kernel counts
# nanoseconds there.
sub seconds
{
	my ($pid) = @_;
	return (split ' ', slurp_file("/proc/$pid/schedstat"))[0] / 1e9;
}

# What statements cost in a session of their own, which has done the first before.
sub cost
{
	my ($first, @statements) = @_;
	my $session = $node->background_psql('postgres');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_safe($first);
	my $before = seconds($pid);
	$session->query_safe($_) for @statements;
	my $cost = seconds($pid) - $before;
	$session->quit;
	return $cost;
}

# Eight times as much costs about eight times as much; were it quadratic, 64 times.
sub grows
{
	my ($what, $few, $many) = @_;
	note(sprintf '%s: %.2f s, %.2f s', $what, $few, $many);
	cmp_ok($many, '<', 24 * ($few < 0.02 ? 0.02 : $few), $what);
}

for my $of ([few => $small], [many => $great])
{
	my ($role, $count) = @$of;
	$node->safe_psql('postgres', qq{CREATE ROLE $role; SET ROLE $role;
		SELECT count(apikey_create('key-' || i, credits => 1000000)) FROM generate_series(1, $count) i});
}
my %cost;
$cost{$_} = cost("SET ROLE $_", q{UPDATE apikeys SET metadata = '{"a": 1}'}) for qw(few many);
grows('to change many keys in one statement', @cost{qw(few many)});

# Subtransactions that spend, each of which is rolled back or kept.
my $key = $node->safe_psql('postgres', q{SELECT apikey_create('spent', credits => 1000000000)});
my $spends = sub {
	my ($count) = @_;
	return qq{DO \$\$ BEGIN FOR i IN 1 .. $count LOOP BEGIN
		IF (SELECT code FROM apikey_verify('$key')) <> 'valid' THEN RAISE 'not valid' USING ERRCODE = 'XX000'; END IF;
		IF i % 2 = 0 THEN RAISE division_by_zero; END IF;
		EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END \$\$};
};
$node->poll_query_until('postgres', "SELECT valid FROM apikey_verify('$key')") or die 'no lease';
grows('to spend in many subtransactions', map { cost('SELECT 1', $spends->($_)) } $small, $great);

# To give back, in a transaction that has spent of several keys in turn: others spin
# for the slot meanwhile.
my $taker = $node->safe_psql('postgres', q{SELECT apikey_create('taker', credits => 1000000000)});
$node->poll_query_until('postgres', "SELECT valid FROM apikey_verify('$taker', cost => 5000)") or die 'no lease';
$node->safe_psql('postgres', q{CREATE TABLE several AS SELECT apikey_create('several-' || i, credits => 1000000000) AS key FROM generate_series(1, 10) i});
$node->poll_query_until('postgres', q{SELECT bool_and(valid) FROM several, apikey_verify(key)}) or die 'no leases';
my ($after_few, $after_many) = map { cost("BEGIN; SELECT count(*) FROM (SELECT array_agg(key) AS keys FROM several) s, generate_series(1, $_) i, apikey_verify(keys[1 + i % 10]) WHERE valid",
	qq{DO \$\$ BEGIN FOR i IN 1 .. 10000 LOOP PERFORM apikey_charge(apikey_id('$taker'), '{"requests": -1}'); END LOOP; END \$\$}) } $small, $great;
note(sprintf 'to give back 10,000 times: %.2f s, %.2f s', $after_few, $after_many);
cmp_ok($after_many, '<', 3 * ($after_few < 0.05 ? 0.05 : $after_few), 'to give back in a transaction that has spent much');

# To end many keys at once, and a role that has them.
$cost{$_} = cost('SELECT 1', "DROP ROLE $_") for qw(few many);
grows('to drop a role with many keys', @cost{qw(few many)});
is($node->safe_psql('postgres', q{SELECT count(*) FROM apikey_key k WHERE owner_name = 'many' AND
	(SELECT status FROM apikeys a WHERE a.id = k.id) = 'active'}), '0', 'none of which is good any more');

# To revoke many at once; then to make keys where many were, and have ended.
for my $of ([fresh => $small], [worn => $great])
{
	my ($project, $count) = @$of;
	$node->safe_psql('postgres', "SELECT count(apikey_create('old-' || i, project => 'acme/$project')) FROM generate_series(1, $count) i");
	$cost{$project} = cost('SELECT 1', "SELECT count(apikey_revoke(id)) FROM apikeys WHERE project = 'acme/$project'");
}
grows('to revoke many keys in one statement', @cost{qw(fresh worn)});
$node->safe_psql('postgres', q{SELECT apikey_project_create('acme/new'); UPDATE apikey_projects SET max_keys = 1000});
# What changes leave in the indexes is removed by vacuum, which is off here.
$node->safe_psql('postgres', 'VACUUM');
# The least of several times, in turns: what else a processor did meanwhile makes it more.
my $round = 0;
my $makes = sub {
	my ($project) = @_;
	$round++;
	return cost("SELECT apikey_create('first-$round', project => '$project')",
		"SELECT count(apikey_create('new-$round-' || i, project => '$project')) FROM generate_series(1, 300) i");
};
my (@fresh, @worn);
for (1 .. 3)
{
	push @fresh, $makes->('acme/new');
	push @worn, $makes->('acme/worn');
}
note(sprintf 'to make 300 keys: %.4f s, %.4f s', min(@fresh), min(@worn));
cmp_ok(min(@worn), '<', 3 * min(@fresh), 'to make keys where many have ended');

# What a project has is gone with it.
$node->safe_psql('postgres', qq{UPDATE apikey_projects SET max_keys = NULL; SELECT apikey_project_create('acme/' || p) FROM unnest('{few,many}'::text[]) p;
	SELECT count(apikey_create('key-' || i, project => 'acme/few')) FROM generate_series(1, $small) i;
	SELECT count(apikey_create('key-' || i, project => 'acme/many')) FROM generate_series(1, $great) i});
grows('to drop a project with many keys', map { cost('SELECT 1', "SELECT apikey_project_drop('acme/$_', 'acme/$_')") } qw(few many));

$node->stop;
done_testing();
