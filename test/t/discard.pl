# Where caches are lost at each look, nothing uses what was freed with them.  A
# server without assertions cannot be told to lose them.
use strict;
use warnings;
use lib 'test';
use Example;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'");
$node->start;
if ($node->safe_psql('postgres', 'SHOW debug_assertions') ne 'on')
{
	$node->stop;
	not_here('the server has no assertions');
}
$node->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE;
	CREATE ROLE anna;
	SELECT apikey_organization_create('acme'), apikey_project_create('acme/pay'), apikey_member_add('acme/pay', 'anna', 'admin');});
my ($rc, $out, $err) = $node->psql('postgres', q{
	SET debug_discard_caches = 1;
	SELECT apikey_create('one', 'acme/pay', credits => 5) AS one \gset
	SELECT code FROM apikey_verify(:'one', project => 'acme');
	UPDATE apikeys SET description = 'changed' WHERE name = 'one';
	SELECT apikey_rotate(id, '1 hour') AS two FROM apikeys WHERE name = 'one' \gset
	SELECT code FROM apikey_verify(:'two', project => 'acme');
	SELECT apikey_self_revoke(:'two');
	SELECT code FROM apikey_verify(:'two', project => 'acme');});
is($err, '', 'no error');
is($out, "valid\nvalid\nt\nrevoked", 'and nothing is answered otherwise');
$node->stop;
done_testing();
