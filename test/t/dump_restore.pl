# A dump carries keys, projects, members and events; those of dropped roles stay behind for good.
use strict;
use warnings;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = PostgreSQL::Test::Cluster->new('old');
$old->init;
$old->start;
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
$new->start;

$old->safe_psql('postgres', q{
	CREATE ROLE stays; CREATE ROLE leaves; CREATE ROLE "odd ""name";
	CREATE EXTENSION apikey CASCADE;
	SELECT apikey_organization_create('acme');
	SELECT apikey_project_create('acme/pay');
	UPDATE apikey_projects SET max_ttl = '100 years', terms = 'be nice';
	SELECT apikey_member_add('acme/pay', 'stays', 'admin');
	SELECT apikey_member_add('acme', 'leaves', 'owner');});
my %key = map {
	my ($name, $role) = @$_;
	($name => $old->safe_psql('postgres', qq{
		SET ROLE $role;
		SELECT apikey_create('$name', scopes => '{a,b:*}', subject => 's', metadata => '{"n": 1}',
			allowed_ips => '{10.0.0.0/8}', expires_at => '2100-01-01')}))
} (['kept', 'stays'], ['gone', 'leaves'], ['odd', '"odd ""name"'], ['revoked', 'stays']);
$key{project} = $old->safe_psql('postgres', q{
	SET ROLE stays;
	SELECT apikey_create('project', 'acme/pay', accept_terms => 'be nice', expires_at => '2100-01-01')});
# Of two keys and their successors one each is of the role that leaves.
for (['stays', 'leaves'], ['leaves', 'stays'])
{
	my ($first, $then) = @$_;
	$key{"of_$first"} = $old->safe_psql('postgres', qq{
		SET ROLE $first;
		SELECT apikey_create('gone', 'acme/pay', role => 'developer', accept_terms => 'be nice', expires_at => '2100-01-01')});
	$key{"then_$then"} = $old->safe_psql('postgres', qq{
		SET ROLE $then;
		SELECT apikey_rotate(apikey_id('$key{"of_$first"}'), '1 day');
		SELECT apikey_rename(id, 'gone-' || id) FROM apikeys WHERE name = 'gone' AND project IS NOT NULL AND rotated_to IS NULL});
	$key{"then_$then"} =~ s/\n.*//s;
}
$old->safe_psql('postgres', q{SELECT apikey_import('gone', 'md5', md5('imported'))});
$key{imported} = 'imported';
my %owner = (kept => 'stays', gone => 'leaves', odd => '"odd ""name"', revoked => 'stays',
	imported => $old->safe_psql('postgres', 'SELECT current_user'));
$old->safe_psql('postgres', qq{
	SELECT apikey_organization_create('former'), apikey_member_add('former', 'stays', 'owner'), apikey_member_add('former', 'leaves', 'owner');
	SELECT apikey_organization_drop('former', 'former');
	SELECT apikey_revoke(apikey_id('$key{revoked}'), 'lost');
	DROP ROLE leaves;
	CREATE ROLE leaves;});

my $list = q{SELECT name, masked_key, status, owner, subject, scopes, created_at, expires_at,
	allowed_ips, metadata, revoked_at, revoke_reason FROM apikeys WHERE name !~ '^gone' ORDER BY name};
my $before = $old->safe_psql('postgres', $list);
my $places = q{SELECT path, terms, max_ttl, (SELECT count(*) FROM apikey_members),
	(SELECT array_agg(event ORDER BY id) FROM apikey_events) FROM apikey_projects};
my $places_before = $old->safe_psql('postgres', $places);
$places_before =~ s/\|3\|/|2|/ or die $places_before;	# without the one who left

# What each role reads of the trail; of one event no name is known, as of all in
# a dump of 0.1.0.
$old->safe_psql('postgres', q{UPDATE apikey_event SET key_owner_name = NULL, actor_oid = 1 WHERE key_name = 'kept'});
sub trail
{
	my ($node, $database) = @_;
	return join '; ', map {
		$_ . ' ' . ($node->safe_psql($database, qq{SET ROLE "$_"; SELECT string_agg(key_name || ' ' || event, ', ' ORDER BY id)
			FROM apikey_events WHERE project IS NULL}) || 'nothing') } 'stays', 'leaves', 'odd ""name';
}
my $trail = trail($old, 'postgres');
is($trail, 'stays kept created, revoked created, revoked revoked; leaves nothing; odd ""name odd created',
	'each reads its own trail, and a role made anew not that of the dropped one');

# Other roles first, so that their OIDs are others' here.
$new->safe_psql('postgres', 'CREATE ROLE one; CREATE ROLE two; CREATE ROLE three; CREATE ROLE four');
my $dir = PostgreSQL::Test::Utils::tempdir();
$old->command_ok([ 'pg_dumpall', '--roles-only', '-f', "$dir/roles.sql" ], 'roles');
$new->psql('postgres', undef, extra_params => [ '-f', "$dir/roles.sql" ], on_error_stop => 0);

for my $format ('plain', 'custom', 'directory')
{
	my $file = "$dir/$format";
	$old->command_ok([ 'pg_dump', "--format=$format", '-f', $file, 'postgres' ],
		"dump, $format");
	$new->safe_psql('postgres', "CREATE DATABASE $format");
	if ($format eq 'plain')
	{
		$new->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $file, $format ],
			"restore, $format");
	}
	else
	{
		$new->command_ok([ 'pg_restore', '--exit-on-error', '-d', $format,
				$format eq 'directory' ? ('-j', '2') : (), $file ],
			"restore, $format");
	}
	is($new->safe_psql($format, $list), $before, "the list, $format");
	is($new->safe_psql($format, $places), $places_before, "projects and events, $format");
	is(trail($new, $format), $trail, "whose trail it is, $format");
	is( $new->safe_psql($format, join ' UNION ALL ', map {
				my $whose = $_ eq 'project' || /^of|^then/ ? "project => 'acme'" : "owner => '$owner{$_}'";
				"SELECT code FROM apikey_verify('$key{$_}', client_addr => '10.0.0.1', $whose)"
			} qw(kept project odd revoked gone of_stays then_leaves of_leaves then_stays imported)),
		"valid\nvalid\nvalid\nrevoked\nnot_found\nvalid\nnot_found\nnot_found\nvalid\nvalid",
		"verification, $format");
	$new->safe_psql($format, 'GRANT EXECUTE ON FUNCTION apikey_organization_create(text) TO PUBLIC');
	for ('two', 'leaves')
	{
		my $stderr;
		$new->psql($format, "SET ROLE $_; SELECT apikey_organization_create('former')", stderr => \$stderr);
		like($stderr, qr/ERROR:  organization name "former" is taken/, "the name of a dropped organization is not $_\'s, $format");
	}
	is($new->safe_psql($format, q{SET ROLE stays; SELECT apikey_organization_create('former') IS NOT NULL}), 't',
		"but a former owner's, $format");
	is( $new->safe_psql($format, q{SELECT apikey_rename(id, 'kept-on') FROM apikeys WHERE name = 'kept';
			SELECT event FROM apikey_events ORDER BY id DESC LIMIT 1}),
		"\nrenamed", "the trail goes on, $format");
}
delete $key{imported};
unlike(slurp_file("$dir/plain"), qr/$_/, 'no key in a dump') for values %key;

# Without one of the roles nothing comes back under another.
my $poor = PostgreSQL::Test::Cluster->new('poor');
$poor->init;
$poor->start;
$poor->safe_psql('postgres', 'CREATE ROLE stays');
my ($result, $stdout, $stderr) =
  $poor->psql('postgres', undef, extra_params => [ '-f', "$dir/plain" ], on_error_stop => 0);
like($stderr, qr/role "odd "name" does not exist/, 'a missing role is named');
is( $poor->safe_psql('postgres', join ' UNION ALL ', map {
			"SELECT code FROM apikey_verify('$_', client_addr => '10.0.0.1')"
		} values %key),
	join("\n", ('not_found') x keys %key),
	'without a role, no key verifies');

# Tables that are restored at once come in any order: a key is revoked that comes after what
# revokes it, though the worker has been there in between.
$new->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'\napikey.flush_interval = '1s'");
$new->restart;
my $beside = $old->safe_psql('postgres', q{SET ROLE stays; SELECT apikey_create('beside', 'acme/pay', accept_terms => 'be nice', expires_at => '2100-01-01')});
$old->safe_psql('postgres', "SET ROLE stays; SELECT apikey_revoke(apikey_id('$beside'))");
is($old->safe_psql('postgres', 'SELECT count(*) FROM apikey_revocation'), 1, 'a key is revoked beside its row');
$old->command_ok([ 'pg_dump', '--format=directory', '-f', "$dir/parallel", 'postgres' ], 'dump, parallel');
$new->safe_psql('postgres', 'CREATE DATABASE parallel');
$new->command_ok([ 'pg_restore', '--exit-on-error', '--section=pre-data', '-d', 'parallel', "$dir/parallel" ], 'restore, parallel, what is before the rows');
$new->safe_psql('parallel', q{CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(1); RETURN NULL; END$$;
	CREATE TRIGGER wait BEFORE INSERT ON apikey_key EXECUTE FUNCTION wait(); ALTER TABLE apikey_key ENABLE ALWAYS TRIGGER wait});
my $holder = $new->background_psql('parallel');
$holder->query_safe('SELECT pg_advisory_lock(1)');
my $restore = IPC::Run::start([ 'pg_restore', '--exit-on-error', '--section=data', '-j', '4', '-d', $new->connstr('parallel'), "$dir/parallel" ], '>', \my $told, '2>&1');
ok($new->poll_query_until('parallel', q{SELECT count(*) = 1 FROM apikey_revocation}), 'what revokes it is there');
$new->safe_psql('parallel', 'SELECT apikey_flush()');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
$holder->quit;
ok($restore->finish, 'restore, parallel, the rows') or diag($told);
is($new->safe_psql('parallel', "SELECT code FROM apikey_verify('$beside', project => 'acme')"), 'revoked', 'a key that came later');
$new->safe_psql('parallel', 'SELECT apikey_flush()');
is($new->safe_psql('parallel', "SELECT (SELECT count(*) FROM apikey_revocation), code FROM apikey_verify('$beside', project => 'acme')"), '0|revoked', 'which is settled');

$_->stop for $old, $new, $poor;
done_testing();
