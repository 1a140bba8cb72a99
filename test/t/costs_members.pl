# What a verification, a scan and a list of keys cost, and to add a member, is the
# same however many members the organization and the project have: anybody makes
# as many there as it likes, of any roles and subjects.  Told by the time that a
# session has had on a processor.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use List::Util qw(min);
use Test::More;

plan skip_all => 'no /proc with times of scheduling' if !-r "/proc/$$/schedstat";

my %members = (few => 2_000, many => 16_000);
my %changes = (few => 400, many => 4_000);
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "autovacuum = off\nfsync = off");
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE everybody; CREATE ROLE anna IN ROLE everybody;
	SELECT apikey_organization_create('other'), apikey_project_create('other/pay')});
my %key;
for my $name (sort keys %members)
{
	# Half of the rows are of the key's owner's group, which is less.
	sql(qq{SELECT apikey_organization_create('$name'); SELECT apikey_project_create('$name/pay');
		INSERT INTO apikey_member (id, organization, project, subject, member, member_name, role, created_at, created_by)
			SELECT gen_random_uuid(), o.id, p.id, 's' || i, r::regrole, r, 'developer', now(), 'test'
			FROM apikey_organization o CROSS JOIN LATERAL (SELECT NULL UNION ALL SELECT id FROM apikey_project WHERE organization = o.id) p (id),
				unnest('{everybody,pg_monitor}'::text[]) r, generate_series(1, $members{$name} / 2) i WHERE o.name = '$name';
		SELECT apikey_member_add('$name/pay', 'anna', 'admin')});
	$key{$name} = sql(qq{SET ROLE anna; SELECT apikey_create('key', '$name/pay', role => 'admin', subject => 'me')});
	sql(qq{SET ROLE anna; SELECT count(apikey_create('key-' || i, '$name/pay', subject => 'me' || i)) FROM generate_series(2, 200) i});
}
sql('VACUUM ANALYZE');

# The processor's seconds that a statement takes, in a session that remembers
# nothing and has run it before, as of all members of one kind: the least of three.
sub seconds { my ($pid) = @_; return (split ' ', slurp_file("/proc/$pid/schedstat"))[0] / 1e9 }
sub cost
{
	my ($begin, $statement) = @_;
	my $session = $node->background_psql('postgres');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_safe("SET apikey.cache_entries = 0; $begin");
	my @costs;
	for (1 .. 3)
	{
		my $before = seconds($pid);
		$session->query_safe($statement);
		push @costs, seconds($pid) - $before;
	}
	$session->quit;
	return min(@costs);
}
sub same
{
	my ($what, $begin, $statement) = @_;
	my ($few, $many) = map { cost($begin, $statement->($_)) } qw(few many);
	note(sprintf '%s: %.4f s, %.4f s', $what, $few, $many);
	cmp_ok($many, '<', 3 * ($few < 0.01 ? 0.01 : $few), $what);
}
sub list
{
	my ($how, $begin) = @_;
	same("to list, $how", "$begin; SET ROLE anna", sub {
		my ($name) = @_;
		return qq{DO \$\$ BEGIN ASSERT (SELECT count(*) FROM apikeys WHERE project = '$name/pay' AND status = 'active') = 200; END \$\$};
	});
}
my $all = sub {
	my ($how, $begin) = @_;
	same("to verify, $how", $begin, sub {
		my ($name) = @_;
		return qq{DO \$\$ BEGIN FOR i IN 1 .. 200 LOOP
			ASSERT (SELECT code FROM apikey_verify('$key{$name}', project => 'other/pay')) = 'wrong_project'; END LOOP; END \$\$};
	});
	same("to scan, $how", "$begin; SET ROLE anna", sub { my ($name) = @_; return "SELECT count(*) FROM apikey_scan(repeat('$key{$name} ', 200))" });
	list($how, $begin);
};
$all->('without subjects', 'SELECT 1');
my $subjects = q{SET apikey.subject_setting = 'app.me'; SET app.me = 'me'};
$all->('with subjects in use', $subjects);
same('to add a member', 'SELECT 1', sub {
	my ($name) = @_;
	return qq{BEGIN; SELECT count(*) FROM (SELECT apikey_member_add('$name', 'anna', 'developer', 'new' || i) FROM generate_series(1, 50) i) m; ROLLBACK};
});
# While something has been removed beside its row, that is looked for.
sql(q{INSERT INTO apikey_revocation (id, key_id, revoked_at, revoked_by, removed, disabled) SELECT gen_random_uuid(), gen_random_uuid(), now(), 'test', true, true});
$all->('beside a removal', 'SELECT 1');

# What an old snapshot keeps of members that were removed or changed is passed by
# for a list, and not for each key of it.
sql(qq{INSERT INTO apikey_member (id, organization, project, subject, member, member_name, role, created_at, created_by)
	SELECT gen_random_uuid(), organization, id, 'gone' || i, 'anna'::regrole, 'anna', 'owner', now(), 'test'
		FROM apikey_project, generate_series(1, $members{$_}) i WHERE path = '$_/pay'}) for sort keys %members;
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql(qq{DO \$\$ BEGIN FOR i IN 1 .. $changes{$_} / 2 LOOP
	PERFORM apikey_member_add('$_/pay', 'anna', 'owner'); PERFORM apikey_member_add('$_/pay', 'anna', 'admin'); END LOOP; END \$\$}) for sort keys %changes;
sql(q{DELETE FROM apikey_member WHERE subject LIKE 'gone%'});
list('after removals and changes', 'SELECT 1');
list('after removals and changes, with subjects in use', $subjects);
$old->query_safe('COMMIT');
$old->quit;

$node->stop;
done_testing();
