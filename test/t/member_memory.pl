# Whoever changes members of many tenants in one transaction has each looked at again
# when that commits: what the looks take of memory is given back.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'no /proc' if !-r "/proc/$$/status";

my $projects = 2000;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# Who claims something is read with room for all sessions that there may be.
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.max_tracked_keys = 1000
apikey.flush_interval = '1h'
max_connections = 1000
shared_buffers = '1MB'
autovacuum = off
fsync = off
});
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE olga; CREATE ROLE anna;
	SELECT apikey_organization_create('acme'), apikey_project_create('acme/first'), apikey_member_add('acme', 'olga', 'owner')});
sql(qq{INSERT INTO apikey_project (id, organization, path, created_at, members_can_view, revealable)
	SELECT gen_random_uuid(), organization, 'acme/p' || i, created_at, false, false FROM apikey_project, generate_series(1, $projects) i});
sub peak { my ($pid) = @_; return slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m ? $1 : die }

my $session = $node->background_psql('postgres');
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe('SET ROLE olga');
$session->query_safe(q{SELECT apikey_member_add('acme/first', 'anna', 'developer')});
$session->query_safe('BEGIN');
is($session->query_safe(q{SELECT count(apikey_member_add(path, 'anna', 'developer')) FROM apikey_projects WHERE path <> 'acme/first'}), $projects, 'members of many projects');
open my $clear, '>', "/proc/$pid/clear_refs" or die $!;
print $clear "5\n";
close $clear;
my $before = peak($pid);
$session->query_safe('COMMIT');
my $grown = peak($pid) - $before;
note "$grown kB";
cmp_ok($grown, '<', 15_000, 'are looked at in little memory');
is(sql(q{SELECT count(*) FROM apikey_member WHERE member = 'anna'::regrole}), $projects + 1, 'and stay');
$session->quit;
$node->stop;
done_testing();
