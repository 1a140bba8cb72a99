# A restore of an older dump brings back keys revoked since; what SECURITY.md
# gives for that, as it is written there, revokes them again.
use strict;
use warnings;
use Cwd;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($section) = slurp_file('SECURITY.md') =~ /\*\*A restore of an older dump(.*?)\n- \*\*/s;
my @blocks = map { s/^  //mgr } $section =~ /^  ```sql\n(.*?)^  ```$/msg;
is(@blocks, 2, 'SECURITY.md has two blocks');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
my $dir = PostgreSQL::Test::Utils::tempdir();
my $home = getcwd();

# Runs a block in the directory that its files are in.
sub run_block
{
	my ($database, $block) = @_;
	chdir $dir;
	my $out = $node->safe_psql($database, $block);
	chdir $home;
	return $out;
}

$node->safe_psql('postgres', 'CREATE ROLE anna');
my %key = map { $_ => $node->safe_psql('postgres', ($_ eq 'kept' ? 'CREATE EXTENSION IF NOT EXISTS apikey CASCADE;' : '')
		  . "SET ROLE anna; SELECT apikey_create('$_')") } ('kept', 'revoked', 'rotated', 'deleted', 'disabled');
$node->command_ok([ 'pg_dump', '-f', "$dir/older.sql", 'postgres' ], 'a dump');
$node->safe_psql('postgres', qq{
	SET ROLE anna;
	SELECT apikey_revoke(apikey_id('$key{revoked}'));
	SELECT apikey_rotate(apikey_id('$key{rotated}'));
	SELECT apikey_delete(apikey_id('$key{deleted}'), 'deleted');
	SELECT apikey_disable(apikey_id('$key{disabled}'))});
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/older.sql", 'restored' ], 'restored');
my $codes = sub {
	return $node->safe_psql('restored', join ' UNION ALL ', map { "SELECT code FROM apikey_verify('$key{$_}', owner => 'anna')" } ('kept', 'revoked', 'rotated', 'deleted'));
};
is($codes->(), "valid\nvalid\nvalid\nvalid", 'what had ended is back');
run_block('postgres', $blocks[0]);
like(run_block('restored', $blocks[1]), qr/^revoked\|t$/m, 'revoked again');
is($codes->(), "valid\nrevoked\nrevoked\nrevoked", 'and nothing else');
is($node->safe_psql('restored', q{SELECT DISTINCT revoke_reason FROM apikeys WHERE revoked_at IS NOT NULL}), 'revoked before the restore', 'with the reason');

$node->stop;
done_testing();
