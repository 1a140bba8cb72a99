# A key's slot remembers where its rows were.  They are looked for there first,
# by who offers the same text, and found there only if they are there.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{APIKEY_TEST_LONG} ? 3000 : 300;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
autovacuum = off
max_prepared_transactions = 1
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE; CREATE TABLE texts (n integer, key text)');
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;

# Sessions that remember nothing; a superuser's scans are counted.
sub session
{
	my $session = $_[0]->background_psql('postgres');
	$session->query_safe('SET apikey.cache_entries = 0');
	return $session;
}
my $one = session($node);
my $two = session($node);
my $verify = sub { my ($session, $key) = @_; return $session->query_safe("SELECT code FROM apikey_verify('$key')") };
# How many scans of the two indexes a statement takes, in a transaction or none.
sub counted
{
	my ($session) = @_;
	return split / /, $session->query_safe(q{SELECT pg_stat_get_xact_numscans('apikey_digest_pkey'::regclass) ||
		' ' || pg_stat_get_xact_numscans('apikey_key_pkey'::regclass)});
}
sub scans
{
	my ($session, $statement, $begin) = (@_, 'BEGIN');
	$session->query_safe($begin);
	my @before = counted($session);
	$session->query_safe($statement);
	my @after = counted($session);
	$session->query_safe('COMMIT');
	return join ' ', map { $after[$_] - $before[$_] } 0, 1;
}
sub create { return $node->safe_psql('postgres', "SELECT apikey_create('$_[0]')") }

my $key = create('one');
my $check = "SELECT apikey_check('$key')";
is(scans($one, $check), '1 1', 'by the indexes the first time');
is(scans($two, $check), '0 0', 'where the rows were, in another session');
is(scans($two, "SELECT valid FROM apikey_verify_digest(left('$key', -39), sha256('$key'))"), '0 0', 'offered by its digest as well');
is(scans($two, "SELECT valid FROM apikey_verify_digest(left('$key', -39), sha256('other'))"), '1 0', 'another secret is told nothing');
is(scans($two, $check), '0 0', 'nor does it forget anything');
$node->safe_psql('postgres', "SELECT apikey_rename(apikey_id('$key'), 'two')");
is(scans($two, $check), '0 1', 'a row that has changed is found by its index');
is(scans($one, $check), '0 0', 'and where it is then by the next');
is(scans($one, $check, 'BEGIN ISOLATION LEVEL SERIALIZABLE'), '1 1', 'what a serializable transaction reads is found by the indexes');
for my $what ('VACUUM FULL apikey_key', 'CLUSTER apikey_digest USING apikey_digest_pkey')
{
	create("filler-" . length($what) . "-$_") for 1 .. 3;
	$node->safe_psql('postgres', $what);
	is($verify->($_, $key), 'valid', "valid after $what") for $one, $two;
	is(scans($one, $check), '0 0', "known again after $what");
}

# What was in a block that is not there any more.
my @last = map { create("last-$_") } 1 .. 300;
is($verify->($one, $last[299]), 'valid', 'a key in the last block');
my $blocks = "SELECT pg_relation_size('apikey_key') / current_setting('block_size')::int";
my $before = $node->safe_psql('postgres', $blocks);
$node->safe_psql('postgres', q{DELETE FROM apikey_key WHERE name LIKE 'last-%'});
$node->safe_psql('postgres', 'VACUUM apikey_key');
cmp_ok($node->safe_psql('postgres', $blocks), '<', $before, 'a table that was cut off');
is($verify->($_, $last[299]), 'not_found', 'has no row there') for $one, $two;
# And one that has another's row there now.
my @first = map { create("first-$_") } 1 .. 300;
is($verify->($one, $last[299]), 'not_found', 'nor has another row in its place');
is($verify->($one, $first[299]), 'valid', 'which is found');

# Changes, committed or not, in any order, between verifications: each answer is
# what the tables say.
my @keys = map { { name => "k$_", key => create("k$_"), state => 'valid' } } 1 .. 8;
my $wrong = 0;
srand(42);
for my $round (1 .. $rounds)
{
	my $k = $keys[int(rand(@keys))];
	my $id = "apikey_id('$k->{key}')";
	my ($call, $then) = @{ (
			[ "SELECT apikey_disable($id)", 'disabled' ],
			[ "SELECT apikey_enable($id)", 'valid' ],
			[ "UPDATE apikeys SET description = 'r$round' WHERE id = $id", undef ],
			[ "SELECT apikey_revoke($id)", 'revoked' ],
			[ "SELECT apikey_delete($id, '$k->{name}')", 'not_found' ],
			[ 'VACUUM apikey_key', undef ],
			[ 'VACUUM FULL apikey_digest', undef ],
			[ 'CLUSTER apikey_key USING apikey_key_pkey', undef ],
			[ 'DELETE FROM apikey_key WHERE name LIKE \'first-%\' AND random() < 0.3', undef ])[int(rand(9))] };
	$then = $k->{state} unless defined $then;
	$then = $k->{state} if $k->{state} =~ /^(revoked|not_found)$/ && $then ne 'not_found';
	my $end = rand() < 0.3 ? 'ROLLBACK' : 'COMMIT';
	if ($call =~ /^(VACUUM|CLUSTER)/)
	{
		$two->query_safe($call);
	}
	else
	{
		$two->query_safe("BEGIN; DO \$\$ BEGIN EXECUTE '" . ($call =~ s/'/''/gr) . "'; EXCEPTION WHEN OTHERS THEN END \$\$");
		$wrong++ unless $verify->($two, $k->{key}) eq $then;
		$wrong++ unless $verify->($one, $k->{key}) eq $k->{state};
		$two->query_safe($end);
		$k->{state} = $then if $end eq 'COMMIT';
	}
	$wrong++ unless $verify->($one, $k->{key}) eq $k->{state};
	if ($k->{state} =~ /^(revoked|not_found)$/ && rand() < 0.5)
	{
		$k->{name} = "n$round";
		$k->{key} = create($k->{name});
		$k->{state} = 'valid';
		$verify->($two, $k->{key});
	}
}
is($wrong, 0, "none of $rounds rounds had another answer than the tables");

# Prepared, and committed by another.
$node->safe_psql('postgres', "BEGIN; SELECT apikey_disable(apikey_id('$key')); PREPARE TRANSACTION 'disable'");
is($verify->($one, $key), 'valid', 'what is prepared does not hold yet');
$node->safe_psql('postgres', "COMMIT PREPARED 'disable'");
is($verify->($one, $key), 'disabled', 'and holds once it is committed');
$node->safe_psql('postgres', "SELECT apikey_enable(apikey_id('$key'))");

# A standby has its own slots.
$node->wait_for_catchup($standby);
my $there = session($standby);
is(scans($there, $check), '1 1', 'a standby finds the rows by the indexes');
is(scans($there, $check), '0 0', 'then where they were');
$node->safe_psql('postgres', 'VACUUM FULL apikey_key; ' . "SELECT apikey_revoke(apikey_id('$key'))");
$node->wait_for_catchup($standby);
is($verify->($there, $key), 'revoked', 'a revocation holds once it is replayed');
is($verify->($one, $key), 'revoked', 'as on the primary');
my $kept = create('kept');
is($verify->($one, $kept), 'valid', 'before a restart');
$_->quit for $one, $two, $there;
$node->restart;
$one = session($node);
is(scans($one, "SELECT apikey_check('$kept')"), '1 1', 'nothing is known of rows after it');
is($verify->($one, $kept), 'valid', 'and all is found');
$one->quit;
$standby->stop;
$node->stop;
done_testing();
