# A transaction that reads as of before sees no limit that was set since.  What
# it does to a key or a project cannot leave that limit behind: it has to be
# tried again.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sql(q{CREATE EXTENSION apikey CASCADE;
	CREATE ROLE helper;
	SELECT apikey_organization_create('acme'), apikey_project_create('acme/pay');
	CREATE FUNCTION try(call text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE call;
		RETURN 'done';
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END $$});
my $key = sql(q{SELECT apikey_create('held')});
my $id = sql("SELECT apikey_id('$key')");
sql(q{SELECT apikey_create('in-project', 'acme/pay')});

# What is done since a transaction began, and what that does then: first at an
# isolation level that reads as of before, then as of now.
sub since
{
	my ($meanwhile, $call, $level) = @_;
	my $past = $node->background_psql('postgres');
	$past->query_safe("BEGIN ISOLATION LEVEL $level");
	$past->query_safe('SELECT count(*) FROM apikeys');
	sql($meanwhile);
	my $result = $past->query_safe("SELECT try(\$try\$$call\$try\$)");
	$past->query_safe('COMMIT');
	$past->quit;
	return $result;
}
for my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	for my $kind ('rate', 'quota')
	{
		is(since("SELECT apikey_limit_set('pages', 2, '1 day', '$kind', key => '$id')", "SELECT apikey_rotate('$id')", $level),
			'40001', "a key is not rotated away from a $kind, $level");
		is(since("SELECT apikey_limit_set('words', 2, '1 day', '$kind', path => 'acme/pay')", q{SELECT apikey_project_drop('acme/pay', 'acme/pay')}, $level),
			'40001', "nor is a project dropped without its own");
		sql('SELECT apikey_limit_drop(id) FROM apikey_limits');
	}
	is(since(q{SELECT apikey_grant('administer', 'helper')}, q{SELECT apikey_ungrant('administer', 'helper')}, $level), '40001', 'a privilege is not said to be taken back');
	is(sql('SELECT count(*) FROM apikey_administrator'), '1', 'that is there still');
	sql(q{SELECT apikey_ungrant('administer', 'helper')});
}
is(since(q{SELECT apikey_limit_set('pages', 2, '1 day', 'quota', key => '} . $id . q{')}, "SELECT apikey_rotate('$id')", 'READ COMMITTED'), 'done', 'as of now it is rotated');
is(sql(q{SELECT string_agg(unit || ' of ' || k.name || ' ' || k.status, ',') FROM apikey_limits l JOIN apikeys k ON k.id = l.key_id}), 'pages of held active', 'with its limit');
is(since(q{SELECT apikey_limit_set('words', 2, '1 day', 'quota', path => 'acme/pay')}, q{SELECT apikey_project_drop('acme/pay', 'acme/pay')}, 'READ COMMITTED'), 'done', 'and a project dropped');
is(sql(q{SELECT count(*) FROM apikey_limit WHERE unit = 'words'}), '0', 'with its own');

$node->stop;
done_testing();
