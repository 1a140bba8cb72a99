# Rotation: a key and all that replace it have one state of their limits, at
# every instant, whatever becomes of the rotation.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Math::BigInt;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
max_prepared_transactions = 5
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
sub sql { return $node->safe_psql('postgres', join ';', @_) }
# Who waits for the worker may be too late once.
sub again
{
	my ($session, $sql) = @_;
	my $result;
	for (1 .. 50) { $result = $session->query_safe($sql); last if $result !~ /^unavailable/ }
	return $result;
}

my ($one, $two) = map { $node->background_psql('postgres') } 1 .. 2;
sub verdict { my ($session, $key, $cost) = @_; return again($session, "SELECT code, coalesce(rate_remaining, credits) FROM apikey_verify('$key', cost => $cost)") }

# Who may import chooses the id of a key that comes from another database.
sub import_under
{
	my ($id) = @_;
	my $n = Math::BigInt->from_hex($id =~ s/-//gr);
	my $handle = '';
	for (1 .. 22)
	{
		$handle = (0 .. 9, 'A' .. 'Z', 'a' .. 'z')[ ($n % 62)->numify ] . $handle;
		$n->bdiv(62);
	}
	my ($rc, $out, $err) = $node->psql('postgres', "SELECT apikey_import('taken', 'sha256', encode(sha256('x'), 'hex'), 'ak_$handle', rate_limit => 1000000, rate_window => '1 second')");
	return $err;
}

# The short form: what is spent while a rotation is open counts, by both keys.
my %short = (rate => "rate_limit => 10, rate_window => '1 hour'", credits => 'credits => 10');
for my $form (sort keys %short)
{
	my $key = sql("SELECT apikey_create('$form', $short{$form})");
	is(verdict($two, $key, 3), 'valid|7', "$form: before");
	$one->query_safe('BEGIN');
	my $next = $one->query_safe("SELECT apikey_rotate(apikey_id('$key'), '1 hour')");
	is(verdict($two, $key, 2), 'valid|5', 'while it is open');
	is(verdict($one, $next, 1), 'valid|4', 'and in it');
	$one->query_safe('COMMIT');
	is(verdict($two, $key, 1), 'valid|3', 'after it');
	is(verdict($two, $next, 1), 'valid|2', 'both');
	my $refused = $form eq 'rate' ? 'rate_limited' : 'exhausted';
	like(verdict($one, $key, 3), qr/^$refused\|2/, 'no more than that');
	like(verdict($one, $next, 3), qr/^$refused\|2/, 'of both together');
	$one->query_safe('BEGIN');
	my $never = $one->query_safe("SELECT apikey_rotate(apikey_id('$next'), '1 hour')");
	is(verdict($one, $never, 0), 'valid|2', 'a third');
	is(verdict($two, $next, 1), 'valid|1', 'is spent of beside it');
	$one->query_safe('ROLLBACK');
	is(verdict($two, $next, 0), 'valid|1', 'rolled back');
	$one->query_safe('BEGIN');
	my $third = $one->query_safe("SELECT apikey_rotate(apikey_id('$next'), '1 hour')");
	$one->query_safe("PREPARE TRANSACTION 'rotated'");
	is(verdict($two, $key, 1), 'valid|0', 'prepared');
	sql("COMMIT PREPARED 'rotated'");
	like(verdict($two, $_, 1), qr/^$refused\|0/, 'and committed') for $key, $next, $third;
	# With the first of them the state does not go.
	sql("SELECT apikey_revoke(apikey_id('$key')), apikey_delete(apikey_id('$key'), '$form')");
	like(verdict($two, $_, 1), qr/^$refused\|0/, 'the first is deleted') for $next, $third;
	like(import_under(sql("SELECT apikey_id('$key')")), qr/this hash or lookup is taken/, 'nobody else is given its place');
	$node->safe_psql('postgres', 'SELECT apikey_flush()');
	like(verdict($two, $third, 1), qr/^$refused\|0/, 'and flushed');
	# Nor does it come back with a revocation of one between.
	my $fourth = sql("SELECT apikey_rotate(apikey_id('$third'))");
	like(verdict($two, $fourth, 1), qr/^$refused\|0/, 'without a grace');
	# The view speaks of the same.
	sql("UPDATE apikeys SET " . ($form eq 'rate' ? 'rate_limit = 20' : 'credits = 10') . " WHERE id = apikey_id('$fourth')");
	is(verdict($two, $fourth, 0), $form eq 'rate' ? 'valid|0' : 'valid|10', 'more: of a rate, what is out stays out');
}

# What the successor is bound by binds what it has replaced, seen at once.
my $old = sql("SELECT apikey_create('bound')");
my $new = sql("SELECT apikey_rotate(apikey_id('$old'), '1 hour')");
is(verdict($two, $old, 5), 'valid|', 'no limit');
sql("UPDATE apikeys SET rate_limit = 4 WHERE id = apikey_id('$new')");
is(verdict($two, $old, 3), 'valid|1', 'a rate limit');
is($two->query_safe("SELECT detail->>'rate_limit' FROM apikey_verify('$old')"), 4, 'which is told');
like(verdict($two, $new, 1), qr/^rate_limited/, 'of both');
sql("UPDATE apikeys SET rate_limit = NULL WHERE id = apikey_id('$new')");
is(verdict($two, $old, 5), 'valid|', 'none again');
sql("UPDATE apikeys SET credits = 3 WHERE id = apikey_id('$new')");
is(verdict($two, $old, 2), 'valid|1', 'credits');
sql("UPDATE apikeys SET credits = NULL WHERE id = apikey_id('$new')");
is(verdict($two, $old, 5), 'valid|', 'none again');

# A row of before: rotated without anything that names the state.
sql("UPDATE apikeys SET rate_limit = 4 WHERE id = apikey_id('$new')",
	"UPDATE apikey_key SET rate_account = NULL");
is(verdict($two, $old, 3), 'valid|1', 'of an older version');
like(verdict($two, $new, 2), qr/^rate_limited/, 'both');
my $newer = sql("SELECT apikey_rotate(apikey_id('$new'), '1 hour')");
like(verdict($two, $_, 2), qr/^rate_limited\|1/, 'all three') for $old, $new, $newer;

# However long the chain is.
my $first = sql("SELECT apikey_create('chain', rate_limit => 5)");
sql("SELECT apikey_limit_set('t', 5, '1 hour', key => apikey_id('$first'))");
my $last = sql(qq{CREATE FUNCTION pg_temp.rotate(key text, times int) RETURNS text LANGUAGE plpgsql AS
	'BEGIN FOR i IN 1 .. times LOOP key := apikey_rotate(apikey_id(key), ''1 hour''); END LOOP; RETURN key; END'},
	"SELECT pg_temp.rotate('$first', 70)");
$last =~ s/.*\n//s;
is(verdict($two, $first, 4), 'valid|1', 'the first of 71');
like(verdict($two, $last, 2), qr/^rate_limited\|1/, 'and the last');
is($two->query_safe("SELECT code FROM apikey_verify('$_', cost => 0, costs => '{\"t\": 3}')"), $_ eq $first ? 'valid' : 'rate_limited', 'by name') for $first, $last;

# Named limits of a key, while a rotation is open.
my $named = sql("SELECT apikey_create('named')");
my %limit = (rate => "10, '1 hour'", quota => "10, '1 hour', 'quota'", balance => "10, NULL, 'balance'");
sql("SELECT apikey_limit_set('$_', $limit{$_}, key => apikey_id('$named'))") for sort keys %limit;
sub named { my ($session, $key, $n) = @_; return again($session, "SELECT code FROM apikey_verify('$key', cost => 0, costs => '{\"rate\": $n, \"quota\": $n, \"balance\": $n}')") }
is(named($two, $named, 4), 'valid', 'named: before');
$one->query_safe('BEGIN');
my $next = $one->query_safe("SELECT apikey_rotate(apikey_id('$named'), '1 hour')");
is(named($two, $named, 2), 'valid', 'while it is open');
is(named($one, $next, 1), 'valid', 'in it');
$one->query_safe('COMMIT');
is(named($_->[0], $_->[1], 4), 'rate_limited', 'together') for [$one, $named], [$two, $next];
is(named($two, $named, 2), 'valid', 'the old one');
is(named($two, $next, 1), 'valid', 'the new one');
is(sql('SELECT string_agg(remaining::text, \' \' ORDER BY unit) FROM apikey_limits WHERE unit <> \'t\''), '0 0 0', 'and nothing is left');

like(import_under($_), qr/its id is no UUIDv7/, 'no key has the place of a limit') for split /\n/, sql('SELECT id FROM apikey_limits');

# The state outlives a restart.
$_->quit for $one, $two;
$node->restart;
$two = $node->background_psql('postgres');
like(verdict($two, $_, 2), qr/^rate_limited\|1/, 'after a restart') for $first, $last;
$two->quit;
$node->stop;
done_testing();
