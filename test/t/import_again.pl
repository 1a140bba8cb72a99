# A key that was deleted, and is imported again under its id, is one like any
# other: it can be deleted by whoever may, and in whatever way.  For a day its id is
# for nobody else's key: what it has cost, and its last uses, are its own.
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = 100
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE;
	CREATE ROLE anna; CREATE ROLE bert; CREATE ROLE cleo;
	SELECT apikey_grant('organizations', 'anna'), apikey_grant('import', 'anna'), apikey_grant('import', 'bert'), apikey_grant('import', 'cleo');
	SET ROLE anna;
	SELECT apikey_organization_create('acme'), apikey_project_create('acme/pay'), apikey_project_create('acme/other');
	SELECT apikey_member_add('acme/pay', 'bert', 'admin')});
sub sql { my ($role, $sql) = @_; return $node->safe_psql('postgres', "SET ROLE $role; $sql") }
# The SQLSTATE of a statement, or what it returns.
sub state_of
{
	my ($role, $sql) = @_;
	my ($rc, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nSET ROLE $role;\n$sql");
	return $stderr =~ /ERROR:  (\w+)/ ? $1 : $stdout;
}
# Imports a key again, as a role, by more arguments.
sub import_again
{
	my ($role, $key, $name, $more) = @_;
	return state_of($role, sprintf "SELECT apikey_import('%s', 'sha256', '%s', '%s'%s) = apikey_id('%s')", $name, sha256_hex($key), substr($key, 0, -39), $more // '', $key);
}
# What somebody has at that moment is removed a little later.
sub gone { my ($name) = @_; return $node->poll_query_until('postgres', "SELECT count(*) = 0 FROM apikey_key WHERE name = '$name'") }
sub left { return $node->safe_psql('postgres', "SELECT count(*) FROM apikey_key WHERE name = '$_[0]'") }

# A project's: by its admin, who is another than made it, and deleted again.
my $in_project = ", project => 'acme/pay'";
for my $end ("apikey_delete(apikey_id('%s'), 'again')", "apikey_project_drop('acme/pay', 'acme/pay')")
{
	my $key = sql('anna', "SELECT apikey_create('again', 'acme/pay')");
	sql('anna', "SELECT apikey_delete(apikey_id('$key'), 'again')");
	is(import_again('bert', $key, 'again', $in_project), 't', 'a project\'s key');
	is(sql('anna', "SELECT code FROM apikey_verify('$key', project => 'acme/pay')"), 'valid', 'is valid again');
	unlike(state_of('anna', sprintf "SELECT $end", $key), qr/^\d{5}$/, "$end goes on");
	ok(gone('again'), 'and it is gone');
}

# A personal one: purged, and removed beside its row, which somebody has.
my $own = sql('cleo', q{SELECT apikey_create('own', subject => 'customer')});
my $limit = sql('cleo', q{SELECT apikey_limit_set('calls', 100, '1 day', 'quota', subject => 'customer')});
my $same = ", subject => 'customer'";
sub remaining { return sql('cleo', "SELECT remaining FROM apikey_limits WHERE id = '$limit'") }
for my $how ('deleted', 'purged', 'removed')
{
	sql('cleo', "SELECT apikey_delete(apikey_id('$own'), 'own')") if left('own');
	is(import_again('cleo', $own, 'own', $same), 't', "$how: imported again");
	is(state_of('cleo', "SELECT apikey_charge(apikey_id('$own'), '{\"calls\": 1}')"), '', 'it is charged');
	if ($how eq 'deleted')
	{
		is(state_of('cleo', "SELECT apikey_delete(apikey_id('$own'), 'own')"), '', 'deleted');
	}
	elsif ($how eq 'purged')
	{
		sql('cleo', "SELECT apikey_revoke(apikey_id('$own'))");
		is(state_of('postgres', q{SELECT apikey_purge('0')}), '1', 'purged by a superuser, with all else');
	}
	else
	{
		my $holder = $node->background_psql('postgres');
		$holder->query_safe("SET ROLE cleo; BEGIN; UPDATE apikeys SET description = 'held' WHERE name = 'own'");
		is(state_of('cleo', "SELECT apikey_delete(apikey_id('$own'), 'own')"), '', 'deleted beside its row');
		is(state_of('cleo', "SELECT count(*) FROM apikeys WHERE name = 'own'"), '0', 'that is gone');
		$holder->query_safe('ROLLBACK');
		$holder->quit;
		ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM apikey_revocation}), 'the worker settles it');
	}
	ok(gone('own'), "$how: it is gone");
	is(state_of('cleo', "SELECT apikey_charge(apikey_id('$own'), '{\"calls\": 1}')"), '', 'a call that was on its way is charged');
}
is(remaining(), 94, 'each for its subject');

# Removed beside its row, and imported before or after that is settled.
is(import_again('cleo', $own, 'own', $same), 't', 'once more');
my $holder = $node->background_psql('postgres');
$holder->query_safe("SET ROLE cleo; BEGIN; UPDATE apikeys SET description = 'held' WHERE name = 'own'");
sql('cleo', "SELECT apikey_delete(apikey_id('$own'), 'own')");
$holder->query_safe('ROLLBACK');
$holder->quit;
is(import_again('cleo', $own, 'own', $same), 't', 'what is removed beside its row can be imported again');
is(sql('cleo', "SELECT code FROM apikey_verify('$own')"), 'valid', 'and is valid');
sql('cleo', "SELECT apikey_delete(apikey_id('$own'), 'own')");

# Of whoever else it was, for a day.
is(import_again('anna', $own, 'taken', $same), '23505', 'nobody else\'s');
is(import_again('cleo', $own, 'taken'), '23505', 'nor another subject\'s');
is(import_again('cleo', $own, 'taken', $in_project), '42704', 'nor one of a project');
my $ours = sql('anna', q{SELECT apikey_create('ours', 'acme/other')});
sql('anna', "SELECT apikey_delete(apikey_id('$ours'), 'ours')");
is(import_again('anna', $ours, 'ours'), '23505', 'nor a personal one of a project\'s');
sql('anna', q{SELECT apikey_project_create('acme/next')});
is(import_again('anna', $ours, 'ours', ", project => 'acme/next'"), '23505', 'nor another project\'s');
is(import_again('anna', $ours, 'ours', ", project => 'acme/other'"), 't', 'but its own');
sql('anna', "SELECT apikey_delete(apikey_id('$ours'), 'ours')");
sql('postgres', q{UPDATE apikey_deleted SET deleted_at = deleted_at - interval '24 hours'});
is(import_again('anna', $own, 'taken'), 't', 'then it is free');

# What a key that was removed by hand has left makes way.
sql('postgres', q{DELETE FROM apikey_key WHERE name = 'taken'});
is(import_again('anna', $own, 'taken'), 't', 'one whose row alone is gone');
is(sql('anna', "SELECT code FROM apikey_verify('$own')"), 'valid', 'is valid again');

# Not while a key that had replaced it keeps its account of credits; then they are its own.
my $first = sql('cleo', q{SELECT apikey_create('chain', credits => 7)});
my $second = sql('cleo', "SELECT apikey_rotate(apikey_id('$first'))");
sql('cleo', "SELECT apikey_delete(apikey_id('$first'), 'chain')");
is(import_again('cleo', $first, 'first', ', credits => 3'), '23505', 'not beside its successor');
is(sql('cleo', "SELECT code, credits FROM apikey_verify('$second', cost => 2)"), 'valid|5', 'whose credits are its own');
sql('cleo', "SELECT apikey_delete(apikey_id('$second'), 'chain')");
is(import_again('cleo', $first, 'first', ', credits => 3'), 't', 'when that is gone');
is(sql('cleo', q{SELECT credits FROM apikeys WHERE name = 'first' AND status = 'active'}), '3', 'with credits');
is(sql('cleo', q{SELECT count(apikey_delete(id, name)) FROM apikeys WHERE status = 'active'}), '1', 'which is deleted');

$node->stop;
done_testing();
