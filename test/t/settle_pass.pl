# The worker settles what stands beside rows, and nothing that is there keeps it
# from the rest: not what somebody has, nor what was restored before its key, which
# stays for that.  Its pass begins anew once there has been nothing: what comes then
# is settled at once, whatever its id.
use strict;
use warnings;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $many = 20_000;
my $await = 2_500;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
autovacuum = off
fsync = off
max_prepared_transactions = 4
});
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub revocations
{
	my ($id, $count) = @_;
	sql(qq{INSERT INTO apikey_revocation (id, key_id, revoked_at, revoked_by, removed, disabled)
		SELECT $id, gen_random_uuid(), now(), 'anna', false, false FROM generate_series(1, $count) i});
}
# The same as they are written here: their keys are gone.
sub left_over
{
	revocations(@_);
	sql('UPDATE apikey_revocation SET restored = false');
}
sub left { return sql('SELECT count(*) FROM apikey_revocation') }

sql('CREATE EXTENSION apikey CASCADE');
sql('SELECT apikey_flush()');
sql(q{CREATE ROLE olga; CREATE ROLE mia; CREATE ROLE mallory;
	SELECT apikey_grant('organizations', 'olga'), apikey_grant('import', 'mallory');
	SET ROLE olga; SELECT apikey_organization_create('acme'), apikey_project_create('acme/pay');
	SELECT apikey_member_add('acme/pay', 'mia', 'admin')});
sub key { return sql("SET ROLE olga; SELECT apikey_create('$_[0]', 'acme/pay')") }
sub settled { return sql("SELECT revoked_at IS NOT NULL FROM apikey_key WHERE name = '$_[0]'") }
sub session { my ($role) = @_; my $session = $node->background_psql('postgres'); $session->query_safe("SET ROLE $role"); return $session }

# A dump that is restored with several tables at once: these rows come before their keys and members.
my %key = map { $_ => key($_) } qw(revoked disabled removed);
my $holder = session('postgres');
$holder->query_safe('BEGIN; SELECT count(*) FROM (SELECT FROM apikey_key FOR UPDATE) k; SELECT count(*) FROM (SELECT FROM apikey_member FOR UPDATE) m');
sql(q{SET ROLE olga; SELECT apikey_revoke(id) FROM apikeys WHERE name = 'revoked'; SELECT apikey_disable(id) FROM apikeys WHERE name = 'disabled';
	SELECT apikey_delete(id, name) FROM apikeys WHERE name = 'removed'; SELECT apikey_member_remove('acme/pay', 'mia')});
my @tables = qw(apikey_revocation apikey_key apikey_member);
sql("CREATE TABLE dump_$_ AS TABLE $_") for @tables;
$holder->query_safe('ROLLBACK');
$holder->quit;
sql("DELETE FROM $_") for @tables;
my $beside = sql('SELECT count(*) FROM dump_apikey_revocation');
is($beside, 4, 'what stands beside rows');
my $codes = q{SELECT string_agg(code, ' ') FROM (VALUES } . join(', ', map { "('$key{$_}')" } qw(revoked disabled removed)) . q{) k (key), apikey_verify(key, project => 'acme/pay')};
for my $again ('', ', restored once more')
{
	sql('INSERT INTO apikey_revocation TABLE dump_apikey_revocation');
	sql('SELECT apikey_flush(); SELECT apikey_purge($$0$$)');
	is(left(), $beside, "waits for its key$again");
	is(($node->psql('postgres', "\\set VERBOSITY sqlstate\nSELECT apikey_import('other', 'sha256', repeat('0', 64), '" . substr($key{revoked}, 0, -39) . "')"))[2],
		'psql:<stdin>:2: ERROR:  23505', "whose id nobody takes$again");
	sql('INSERT INTO apikey_key TABLE dump_apikey_key');
	sql('INSERT INTO apikey_member TABLE dump_apikey_member');
	for my $when ("restored$again", "settled$again")
	{
		is(sql($codes), 'revoked disabled not_found', "keys, $when");
		is(sql(q{SELECT count(*) FROM apikey_members WHERE member = 'mia'::regrole}), 0, "a member, $when");
		sql('SELECT apikey_flush()');
		is(left(), 0, "nothing beside rows, $when");
	}
	is(sql(q{SELECT string_agg(name, ' ' ORDER BY name) FROM apikey_key}), 'disabled revoked', "the keys that are left$again");
	is(sql(q{SELECT count(*) FROM apikey_member WHERE member = 'mia'::regrole}), 0, "and no such member$again");
	sql("DELETE FROM $_") for @tables[1, 2];
}
sql('INSERT INTO apikey_member TABLE dump_apikey_member');

# However many wait so, what comes behind them is settled; a key that comes takes its own along.
revocations(q{CAST('00000000-0000-4000-8000-' || lpad(to_hex(i), 12, '0') AS uuid)}, $await);
key('behind');
sql(q{SET ROLE olga; SELECT apikey_revoke(id) FROM apikeys WHERE name = 'behind'});
sql('SELECT apikey_flush()');
is(settled('behind'), 't', 'what is behind those that wait is settled');
is(left(), $await, 'which wait still');
sub scans { return sql(q{SELECT idx_scan FROM pg_stat_all_indexes WHERE indexrelname = 'apikey_revocation_pkey'}) }
my $scans = scans();
sql(q{SELECT apikey_purge('1 day')});
cmp_ok(scans() - $scans, '<', 10, 'a superuser who purges goes by them in one way');
my $late = key('late');
sql("INSERT INTO apikey_revocation (id, key_id, revoked_at, revoked_by, removed, disabled) VALUES ('f0000000-0000-4000-8000-000000000000', apikey_id('$late'), now(), 'olga', false, false)");
sql(q{SET ROLE olga; SELECT apikey_delete(id, name) FROM apikeys WHERE name = 'late'});
is(left(), $await, 'with a key that is deleted goes what was restored beside it');
sql('UPDATE apikey_revocation SET restored = false; SELECT apikey_flush()');
is(left(), 0, 'a superuser says that they wait for nothing');

# Who imports a key has what was left over under its id, for as long as it likes.
for my $end ('open', 'prepared')
{
	my $importer = session('mallory');
	my $own = sql(q{SET ROLE mallory; SELECT apikey_create('own')});
	my $handle = substr($own, 0, -39);
	key($end);
	$importer->query_safe("BEGIN; SELECT apikey_self_revoke('$own')");
	sql("SET ROLE mallory; SELECT apikey_delete(apikey_id('$own'), 'own')");
	$importer->query_safe('COMMIT');
	is(left(), 1, "$end: a row is left over");
	$importer->query_safe("BEGIN; SELECT apikey_import('imported-$end', 'sha256', repeat('0', 64), '$handle')");
	$importer->query_safe("PREPARE TRANSACTION 'import'") if $end eq 'prepared';
	sql("SET ROLE olga; SELECT apikey_revoke(id) FROM apikeys WHERE name = '$end'");
	my $offset = -s $node->logfile;
	sql('SELECT apikey_flush()');
	is(settled($end), 't', "$end: what others revoke is settled");
	unlike(slurp_file($node->logfile, $offset), qr/settling revocations/, "$end: without an error");
	my $begun = time();
	is(sql(q{SELECT apikey_purge('1 day')}), 0, "$end: a superuser purges");
	cmp_ok(time() - $begun, '<', 4, "$end: waiting for nobody");
	$importer->query_safe($end eq 'prepared' ? "COMMIT PREPARED 'import'" : 'ROLLBACK');
	$importer->quit;
	sql('SELECT apikey_flush()');
	is(left(), 0, "$end: and is rid of it in the end");
}

# Nor does who has such a row itself, or what else is in the way of one, stop the others.
key($_) for qw(had fails other);
$holder = session('postgres');
sub revoke { sql("SET ROLE olga; SELECT count(apikey_revoke(id)) FROM apikeys WHERE name = '$_'") for @_ }
revoke('had');
$holder->query_safe('BEGIN; SELECT id FROM apikey_revocation FOR UPDATE');
revoke('fails', 'other');
sql(q{CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE lock_not_available; END$$;
	CREATE TRIGGER fail BEFORE UPDATE ON apikey_key FOR EACH ROW WHEN (new.name = 'fails') EXECUTE FUNCTION fail();
	ALTER TABLE apikey_key ENABLE ALWAYS TRIGGER fail});
my $offset = -s $node->logfile;
sql('SELECT apikey_flush()');
is(settled('other'), 't', 'what nobody has is settled');
like(slurp_file($node->logfile, $offset), qr/WARNING:  lock_not_available/, 'and the log tells of the rest');
is(($node->psql('postgres', q{SELECT apikey_purge('1 day')}))[0], 0, 'a superuser purges meanwhile');
$holder->query_safe('ROLLBACK');
$holder->quit;
sql('DROP TRIGGER fail ON apikey_key; SELECT apikey_flush()');
is(settled('had') . settled('fails') . left(), 'tt0', 'the rest in the end');

# All go while the worker is amid them: it waits for that between two steps.
left_over('gen_random_uuid()', $many);
my $worker = IPC::Run::start(['psql', '-XAtqd', $node->connstr('postgres'), '-c', 'SELECT apikey_flush()'], '>', \my $out, '2>', \my $err);
my $until = time() + $PostgreSQL::Test::Utils::timeout_default;
usleep(1000) while left() == $many && time() < $until;
sql('TRUNCATE apikey_revocation');
$worker->finish;
# The least id of all.
left_over("'00000000-0000-4000-8000-000000000000'", 1);
sql('SELECT apikey_flush()');
is(left(), '0', 'what comes after that is settled');

$node->stop;
done_testing();
