# What a call has cost counts for the key's organization, though the key's project
# was dropped meanwhile while somebody had the key's row.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
});
$node->start;
sub sql { return $node->safe_psql('postgres', join(';', @_)) }
sub fails { return ($node->psql('postgres', $_[0]))[0] != 0 }
sql('CREATE EXTENSION apikey CASCADE');
sql("SELECT apikey_organization_create('acme')");
sql("SELECT apikey_limit_set('calls', 1000, '1 day', 'quota', path => 'acme')");
my $left = "SELECT remaining FROM apikey_limits WHERE unit = 'calls' AND path = 'acme'";
my $counted = 0;

# A key of a project that ends, its row held or not, by its removal or the drop.
sub key
{
	my ($project) = @_;
	sql("SELECT apikey_project_create('acme/$project')");
	return sql("SELECT apikey_id(apikey_create('ends', 'acme/$project'))");
}
sub charges
{
	my ($id, $test) = @_;
	sql("SELECT apikey_charge('$id', '{\"calls\": 10}', 'acme')");
	$counted += 10;
	is(sql('SELECT apikey_flush()', $left) =~ /(\d+)\s*$/ ? $1 : undef, 1000 - $counted, "$test: counts for the organization");
	ok(fails("SELECT apikey_charge('$id', '{\"calls\": 1}')"), "$test: and is no personal key");
	return;
}

my $holder = $node->background_psql('postgres');
for my $removed (0, 1)
{
	my $how = $removed ? 'removed before its project' : 'of a dropped project';
	my $id = key("held$removed");
	sql("SELECT apikey_charge('$id', '{\"calls\": 10}', 'acme')");
	$counted += 10;
	$holder->query_safe($_) for 'BEGIN', "SELECT id FROM apikey_key WHERE id = '$id' FOR UPDATE";
	sql("SELECT apikey_delete('$id', 'ends')") if $removed;
	sql("SELECT apikey_project_drop('acme/held$removed', 'acme/held$removed')");
	charges($id, "a key $how");
	is(sql("SELECT count(*) FROM apikey_key WHERE id = '$id'"), 1, 'while its row is held');
	$holder->query_safe('ROLLBACK');
	sql('SELECT apikey_flush()');
	is(sql("SELECT count(*) FROM apikey_key WHERE id = '$id'"), 0, 'which then goes');
	charges($id, "a key $how, gone");
}

# Nobody waits for who is dropping the project, nor he for who is deleting the key.
for my $commits ('COMMIT', 'ROLLBACK')
{
	my $project = lc "both$commits";
	my $id = key($project);
	$holder->query_safe($_) for 'BEGIN', "SELECT apikey_delete('$id', 'ends')";
	sql("SET statement_timeout = '10s'", "SELECT apikey_project_drop('acme/$project', 'acme/$project')");
	$holder->query_safe($commits);
	sql('SELECT apikey_flush()');
	is(sql("SELECT count(*) FROM apikey_key WHERE id = '$id'"), 0, "a key whose deletion's end is $commits");
	charges($id, 'it') if $commits eq 'COMMIT';
	ok(fails("SELECT apikey_charge('$id', '{\"calls\": 1}')"), 'is no personal key');
}
$holder->quit;
$node->stop;
done_testing();
