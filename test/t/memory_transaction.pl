# What a transaction remembers of limits, to undo it, does not grow with how often
# keys are verified in it: however many keys take turns, in whatever order, what
# is done to a limit again is remembered together with what was done before.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $keys = 100;
my $amount = 1_000_000_000;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.max_tracked_keys = 10000
apikey.credits_lease = 1000000
apikey.flush_interval = '1h'
fsync = off
});
$node->start;
sub sql { return $node->safe_psql('postgres', join ';', @_) }
sql('CREATE EXTENSION apikey CASCADE', q{SELECT apikey_organization_create('acme'), apikey_project_create('acme/pay')},
	"CREATE TABLE key AS SELECT i, apikey_create('key-' || i, 'acme/pay') AS text FROM generate_series(0, $keys) i",
	"SELECT count(apikey_limit_set('requests', $amount, '1 day', 'quota', key => apikey_id(text))) FROM key",
	map { "SELECT apikey_limit_set('requests', $amount, '1 day', '$_', path => 'acme/pay')" } qw(rate quota));

my $session = $node->background_psql('postgres');
# So many rounds of all keys but one, in an order.
sub rounds
{
	my ($count, $order) = @_;
	return $session->query_safe(qq{SELECT count(*) FROM (SELECT text FROM generate_series(1, $count) r, key WHERE i > 0 ORDER BY $order OFFSET 0) k
		WHERE apikey_check(k.text, project => 'acme/pay')});
}
sub used { return $session->query_safe('SELECT sum(used_bytes) FROM pg_backend_memory_contexts') }
for (1 .. 100)
{
	last if rounds(1, 'i') == $keys;
}
$session->query_safe('BEGIN');
is(rounds(1, 'r, i'), $keys, 'each key is verified');
used();
my $before = used();
for (['r, i', 'in turns'], ['r, -i', 'the other way round'], ['hashint4(r * 1000 + i), i', 'in no order'])
{
	my ($order, $name) = @$_;
	is(rounds(1000, $order), 1000 * $keys, "$name, each a thousand times");
	my $grown = used() - $before;
	cmp_ok($grown, '<', 100_000, "the transaction remembers no more: $grown bytes");
}
$session->query_safe('ROLLBACK');

note 'What is remembered together is final, or undone, as it was.';
# What is left of the quotas of the keys, of that of the project, and how much the
# history has of requests.
sub left
{
	return sql('SELECT apikey_flush()', qq{SELECT string_agg(DISTINCT ($amount - remaining)::text, ' ') FILTER (WHERE path IS NULL AND key_id <> (SELECT apikey_id(text) FROM key WHERE i = 0)),
		max($amount - remaining) FILTER (WHERE path IS NOT NULL) FROM apikey_limits WHERE kind = 'quota'}) =~ s/^\n//r;
}
my $other;
for (1 .. 100)
{
	$other = $session->query_safe(q{SELECT code FROM key, apikey_verify(text, project => 'acme/pay', cost => 1000) WHERE i = 0});
	last if $other ne 'unavailable';
}
is($other, 'valid', 'another key spends, too');
my ($of_key, $of_project) = split /\|/, left();
for my $order ('r, i', 'hashint4(r * 1000 + i), i')
{
	$session->query_safe('BEGIN');
	rounds(2, $order);
	$session->query_safe('SAVEPOINT one');
	rounds(3, $order);
	$session->query_safe('SAVEPOINT two');
	rounds(10, $order);
	$session->query_safe('ROLLBACK TO two');
	rounds(4, $order);
	$session->query_safe('RELEASE one');
	rounds(5, $order);
	$session->query_safe('SAVEPOINT three');
	rounds(20, $order);
	$session->query_safe('ROLLBACK TO three');
	$session->query_safe('COMMIT');
	$of_key += 14;
	$of_project += 14 * $keys;
	is(left(), "$of_key|$of_project", "spent in subtransactions that were committed: $order");
	$session->query_safe(q{BEGIN; SELECT count(apikey_charge(apikey_id(text), '{"requests": -9}', 'acme/pay')) FROM key WHERE i > 0;
		SAVEPOINT one; SELECT count(apikey_charge(apikey_id(text), '{"requests": -3}', 'acme/pay')) FROM key WHERE i > 0; ROLLBACK TO one; COMMIT});
	$of_key -= 9;
	$of_project -= 9 * $keys;
	is(left(), "$of_key|$of_project", 'and given back');
}
$session->query_safe(q{SELECT count(apikey_charge(apikey_id(text), '{"requests": -1000000}', 'acme/pay')) FROM key WHERE i > 0});
is(left(), '0|1000', 'each gives back what it has spent, and no more');
is(sql(q{SELECT sum((spent ->> 'requests')::bigint) FROM apikey_usage_history WHERE key_name <> 'key-0'}), 0, 'nor is anything left in the history');

note 'A lease is out of an account that the transaction has written.';
my $written = sql("SELECT apikey_create('written', credits => 1000000)");
my $check = "apikey_check('$written')";
sub check_once
{
	for (1 .. 100)
	{
		last if $session->query_safe("SELECT $check") eq 't';
	}
}
check_once();
sub kept { return $session->query_safe(q{SELECT used_bytes FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext'}) }
$session->query_safe("BEGIN; SELECT apikey_credits_add(apikey_id('$written'), 1)");
is($session->query_safe("SELECT $check"), 't', 'it is spent in its row');
$before = kept();
is($session->query_safe("SELECT count(*) FROM generate_series(1, 2000) WHERE $check"), 2000, 'two thousand times');
my $grown = kept() - $before;
cmp_ok($grown, '<', 60_000, "which is remembered once: $grown bytes");
$session->query_safe("SAVEPOINT one; SELECT $check; SELECT apikey_credits_add(apikey_id('$written'), 5); ROLLBACK TO one; SELECT $check; COMMIT");
sub credits { return sql('SELECT apikey_flush()', q{SELECT credits FROM apikeys WHERE name = 'written'}) =~ s/^\n//r }
is(credits(), 1000000 - 1 + 1 - 2002, 'each is spent');
# What a subtransaction has held is free with its end, and is held anew.
check_once();
$session->query_safe("BEGIN; SAVEPOINT one; SELECT apikey_credits_add(apikey_id('$written'), 5); SELECT $check; ROLLBACK TO one; SELECT $check; SELECT apikey_credits_add(apikey_id('$written'), 7); SELECT $check; ROLLBACK");
is(credits(), 1000000 - 1 + 1 - 2002 - 1, 'or comes back');
$session->quit;
done_testing;
