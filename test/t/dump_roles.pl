# Who may dump and restore what: a database's owner who is no superuser takes
# everything but the keys; a backup role takes all.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
my $dir = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', q{
	CREATE ROLE owner LOGIN; CREATE ROLE anna LOGIN;
	CREATE ROLE backup LOGIN BYPASSRLS IN ROLE pg_read_all_data;
	CREATE ROLE keeper LOGIN BYPASSRLS IN ROLE pg_read_all_data, pg_write_all_data;
	CREATE ROLE reader LOGIN IN ROLE pg_read_all_data;});
$node->safe_psql('postgres', "CREATE DATABASE $_->[0] OWNER $_->[1]")
  for ['app', 'owner'], ['without', 'owner'], ['refused', 'owner'], ['whole', 'keeper'];

sub as
{
	my ($role, $database, $sql) = @_;
	return $node->safe_psql($database, $sql, extra_params => [ '-U', $role ]);
}

as('owner', 'app', q{
	CREATE EXTENSION apikey CASCADE;
	CREATE TABLE mine AS SELECT 'kept' AS what;
	SELECT apikey_organization_create('acme');
	SELECT apikey_project_create('acme/pay')});
my $key = as('anna', 'app', q{SELECT apikey_create('one')});
sub code { my ($database) = @_; return $node->safe_psql($database, "SELECT code FROM apikey_verify('$key', owner => 'anna')") }

# The owner cannot read a digest, and so not take the keys along.
$node->command_fails_like([ 'pg_dump', '-U', 'owner', '-f', "$dir/none", 'app' ],
	qr/permission denied|user may lack SELECT privilege/, 'no dump of all by an owner who is no superuser');
$node->command_fails_like([ 'pg_dump', '-U', 'reader', '-f', "$dir/none", 'app' ],
	qr/row-level security|permission denied/, 'nor by a member of pg_read_all_data alone');
$node->command_ok([ 'pg_dump', '-U', 'owner', '-Fc', '-T', '*.apikey_*', '-f', "$dir/without", 'app' ],
	'but of all that is not the extension\'s');
$node->command_ok([ 'pg_restore', '-U', 'owner', '--exit-on-error', '-d', 'without', "$dir/without" ],
	'which an owner restores');
is(as('owner', 'without', 'SELECT what FROM mine'), 'kept', 'with its data');
is(code('without'), 'not_found', 'and no keys');

# A backup role takes all.
$node->command_ok([ 'pg_dump', '-U', 'backup', '-Fc', '-f', "$dir/all", 'app' ], 'a backup role dumps all');
$node->command_fails_like([ 'pg_restore', '-U', 'owner', '-d', 'refused', "$dir/all" ],
	qr/permission denied for table apikey_key/, 'an owner cannot put keys back');
is(code('refused'), 'not_found', 'so that none verifies');
is(as('owner', 'refused', 'SELECT what FROM mine'), 'kept', 'but has his own');
$node->command_ok([ 'pg_restore', '-U', 'keeper', '--no-owner', '--exit-on-error', '-d', 'whole', "$dir/all" ],
	'who may write all data and bypass row security can');
is(code('whole'), 'valid', 'and the keys verify');
is( $node->safe_psql('whole', q{SELECT (SELECT path FROM apikey_projects), (SELECT array_agg(event ORDER BY id) FROM apikey_events)}),
	'acme/pay|{organization_created,member_added,project_created,created}', 'with projects and events');

# In one transaction, all or nothing: without a role there is nothing.
$node->safe_psql('postgres', 'CREATE DATABASE single');
$node->safe_psql('postgres', q{ALTER ROLE anna RENAME TO anne});
$node->command_fails_like([ 'pg_restore', '--single-transaction', '-d', 'single', "$dir/all" ],
	qr/role "anna" does not exist/, 'without a role');
is($node->safe_psql('single', q{SELECT count(*) FROM pg_extension WHERE extname = 'apikey'}), '0', 'nothing is restored');
$node->safe_psql('postgres', q{ALTER ROLE anne RENAME TO anna});
$node->command_ok([ 'pg_restore', '--single-transaction', '-d', 'single', "$dir/all" ], 'with it');
is(code('single'), 'valid', 'all is');

$node->stop;
done_testing();
