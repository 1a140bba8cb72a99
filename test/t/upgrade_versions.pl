# The library and SQL of different versions: what 0.1.0's script calls works or
# refuses, saying what to do; a version that the library does not know is
# refused; the step refuses under a library that is older than it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $data = slurp_file('test/data/0.1.0.sql');
my %key = $data =~ /^-- (\w+) +(\S*[a-z]\S*\d\S*)$/mg;

# Every function of the extension is called, with a value for each argument or
# with NULL for all, and every view selected; what is returned is the code of
# each error, and its hint.
my $call_all = q{
	CREATE FUNCTION regress_call(what text, query text, OUT called text, OUT state text, OUT message text, OUT hint text)
		LANGUAGE plpgsql AS $$
	BEGIN
		called := what;
		state := '00000';
		EXECUTE query;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	END $$;
	CREATE VIEW regress_calls AS
		SELECT p.oid::regprocedure::text || ' ' || kind AS what,
				format('SELECT * FROM %s(%s)', p.oid::regproc, (SELECT string_agg(CASE
						WHEN kind = 'nulls' THEN format('NULL::%s', format_type(type, NULL))
						ELSE format('%L::%s', CASE
							WHEN name = 'key' THEN 'KEY'
							WHEN name IN ('path', 'project') AND type = 'text'::regtype THEN 'acme/payments'
							WHEN name IN ('confirm_name') THEN 'acme/payments'
							WHEN name = 'algorithm' THEN 'sha256'
							WHEN name = 'hash' THEN repeat('0a', 32)
							WHEN name = 'what' THEN 'stats'
							WHEN type = 'uuid'::regtype THEN '01a2171b-627c-75cb-a254-b1260b460dd4'
							WHEN type IN ('regrole'::regtype, 'name'::regtype) THEN 'regress_apikey_anna'
							WHEN type = 'oid'::regtype THEN '10'
							WHEN type = 'text'::regtype THEN 'text-' || n
							WHEN type IN ('text[]'::regtype, 'cidr[]'::regtype) THEN '{}'
							WHEN type = 'jsonb'::regtype THEN '{}'
							WHEN type = 'bytea'::regtype THEN '\x00'
							WHEN type = 'inet'::regtype THEN '10.0.0.1'
							WHEN type = 'boolean'::regtype THEN 'f'
							WHEN type = 'interval'::regtype THEN '1 day'
							WHEN type = 'timestamptz'::regtype THEN '2090-01-01'
							WHEN type IN ('integer'::regtype, 'bigint'::regtype) THEN '1'
							ELSE 'developer' END, format_type(type, NULL)) END, ', ' ORDER BY n)
					FROM unnest(p.proargtypes::oid[], p.proargnames) WITH ORDINALITY AS a (type, name, n)
					WHERE type <> 0 AND type IS NOT NULL)) AS query
			FROM pg_proc p
			JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
			JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'apikey',
			(VALUES ('values'), ('nulls')) AS k (kind)
			WHERE p.prorettype NOT IN ('trigger'::regtype, 'internal'::regtype)
		UNION ALL
		SELECT format('view %s', c.relname), format('SELECT * FROM %s', c.oid::regclass)
			FROM pg_class c WHERE relkind = 'v' AND relname ~ '^apikey'
		UNION ALL
		SELECT 'update', 'UPDATE apikeys SET description = ''x'' WHERE name = ''personal'''
		UNION ALL
		SELECT 'settings', 'UPDATE apikey_projects SET max_keys = 100'
		UNION ALL
		SELECT 'insert', 'INSERT INTO apikeys (name) VALUES (''x'')';
	GRANT SELECT ON regress_calls TO PUBLIC;};

# What an argument of no use may be refused with; never an internal error.
my $allowed = qr/^(00000|22004|22023|23505|28000|42501|42704|55000|PT\d{3})$/;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

sub load_old
{
	my ($database) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, q{CREATE EXTENSION apikey VERSION '0.1.0' CASCADE});
	command_ok(['psql', '-X', '-q', '-d', $node->connstr($database), '-v', 'ON_ERROR_STOP=1',
			'-v', 'schema=public', '-f', 'test/data/0.1.0.sql'], 'rows of 0.1.0');
	$node->safe_psql($database, $call_all);
}

sub call_all
{
	my ($database, $role) = @_;
	# Each by itself: what one removes, the others have.
	my $calls = $node->safe_psql($database, qq{
		SET ROLE $role;
		SET client_min_messages = error;
		SELECT what, replace(query, 'KEY', '$key{personal}') FROM regress_calls ORDER BY 1});
	my ($wrong, $count) = ('', 0);
	for my $call (split /\n/, $calls)
	{
		my ($what, $query) = split /\|/, $call, 2;
		$query =~ s/'/''/g;
		my $said = $node->safe_psql($database, qq{
			BEGIN; SET LOCAL ROLE $role; SET LOCAL client_min_messages = error;
			SELECT state, message, hint FROM regress_call('call', '$query'); ROLLBACK});
		my ($state, $message, $hint) = split /\|/, $said, 3;
		$count++;
		$wrong .= "$what: $said\n"
		  if $state !~ $allowed
		  || ($message =~ /another version|does not exist/ && $state eq '55000' && $hint !~ /ALTER EXTENSION apikey UPDATE/);
	}
	is($wrong, '', "$database: $count calls as $role are answered or refused");
	cmp_ok($count, '>', 80, 'that is everything');
}

sub codes
{
	my ($database) = @_;
	return join ' ', map { $node->safe_psql($database,
			"SELECT code FROM apikey_verify('$key{$_}', " . ($_ eq 'project' ? "project => 'acme/payments'" : "owner => 'regress_apikey_anna'") . ')') }
	  qw(personal project credits revoked disabled imported bcrypt rotated gone limited);
}

# Without the library preloaded, and with it.
load_old('old');
is(codes('old'), 'valid valid unavailable revoked disabled valid valid valid not_found unavailable', 'keys verify as they did; those with credits, or a limit, are not decided');
# 0.1.0 has no index of what a role is in a project, however many members that has.
$node->safe_psql('old', q{INSERT INTO apikey_member (id, organization, project, subject, member, member_name, role, created_at, created_by)
	SELECT gen_random_uuid(), organization, id, i::text, 'pg_monitor', 'pg_monitor', 'developer', now(), 'test' FROM apikey_project, generate_series(1, 100) i});
is(codes('old'), 'valid valid unavailable revoked disabled valid valid valid not_found unavailable', 'and so they do where a project has many members');
call_all('old', 'postgres');
call_all('old', 'regress_apikey_anna');
like($node->safe_psql('old', q{SELECT state, hint FROM regress_call('create', 'SELECT apikey_create(''new'')')}),
	qr/^55000\|.*ALTER EXTENSION apikey UPDATE/, 'what the tables lack is refused, with the remedy');
$node->safe_psql('old', 'CREATE ROLE regress_apikey_leaver; DROP ROLE regress_apikey_leaver');

$node->append_conf('postgresql.conf', qq{
	shared_preload_libraries = 'apikey'
	log_min_messages = info
	apikey.flush_interval = '200ms'});
$node->restart;
is(codes('old'), 'valid valid unavailable revoked disabled valid valid valid not_found valid', 'keys verify with the library preloaded');
call_all('old', 'postgres');
call_all('old', 'regress_apikey_anna');
$node->safe_psql('old', 'CREATE ROLE regress_apikey_leaver; DROP ROLE regress_apikey_leaver');

# The worker does not go round and round over what it cannot do there: a few
# transactions at each flush, of which there are twenty, and no word of it.
sub quiet
{
	my ($database, $most, $name) = @_;
	my $commits = "SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database WHERE datname = '$database'";
	my $from = -s $node->logfile;
	my $before = $node->safe_psql('postgres', $commits);
	sleep 4;
	my $busy = $node->safe_psql('postgres', $commits) - $before;
	my $log = substr(slurp_file($node->logfile), $from);
	my @lines = grep { /apikey worker|ERROR|WARNING/ } split /\n/, $log;
	is(scalar @lines, 0, "$name: the log") or diag(join "\n", @lines[0 .. 20]);
	cmp_ok($busy, '<', $most, "$name: transactions");
}
codes('old');
quiet('old', 400, 'with the SQL of 0.1.0');
$node->safe_psql('old', 'ALTER EXTENSION apikey UPDATE');
is(codes('old'), 'valid valid valid revoked disabled valid valid valid not_found valid', 'after the update too');
is($node->safe_psql('old', q{SELECT count(*), string_agg(relname, ' ') FILTER (WHERE relnatts > 32)
		FROM pg_class JOIN pg_depend ON classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e'
		WHERE relkind = 'r' AND relname ~ '^apikey_'}) =~ s/^\d\d\|//r,
	'', "0.1.0's library, which a session may have still, reads rows of 32 columns at most");

# SQL that only a newer library knows
$node->safe_psql('old', q{UPDATE pg_extension SET extversion = '9.9.9' WHERE extname = 'apikey'});
for my $query ("SELECT code FROM apikey_verify('$key{personal}')", "SELECT apikey_check('$key{personal}')",
	q{SELECT apikey_create('new')}, q{SELECT count(*) FROM apikeys}, q{SELECT count(*) FROM apikey_events}, q{SELECT apikey_purge('1 day')})
{
	my ($rc, $out, $err) = $node->psql('old', "\\set VERBOSITY verbose\n$query");
	like($err, qr/ERROR:  55000: extension "apikey" is of version 9\.9\.9, which its library of version \S+ does not know\nHINT:  Reconnect or, /, "refused: $query");
}
is($node->safe_psql('old', "SELECT apikey_id('$key{personal}') IS NOT NULL"), 't', 'what reads no table is not');
$node->safe_psql('old', 'CREATE ROLE regress_apikey_leaver; DROP ROLE regress_apikey_leaver');
$node->restart;
quiet('old', 400, 'SQL that it does not know, the worker leaves alone');
$node->safe_psql('old', 'DROP EXTENSION apikey');
$node->safe_psql('postgres', 'DROP DATABASE old');

# The first statement of the step, under a library that has not what it needs
my ($first) = slurp_file('sql/apikey--0.1.0--0.2.0.sql') =~ /^(DO \$\$\nBEGIN\n\tCREATE FUNCTION .*?^\$\$;)$/ms;
$first =~ s/MODULE_PATHNAME/\$libdir\/pgcrypto/;
$first =~ s/\@extschema\@/public/g;
my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$first");
like($err, qr/ERROR:  55000: extension "apikey" cannot be updated under an older library\n.*HINT:  Reconnect or, .*restart the server/s,
	'the step refuses, with the remedy');

$node->stop;
done_testing();
