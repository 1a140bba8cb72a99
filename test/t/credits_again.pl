# Credits that are taken away and given again are others: nothing that was spent of
# them before is given back, and nothing that was leased before goes back.
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
apikey.credits_lease = 1000
});
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE bob; CREATE ROLE fleet;
	SELECT apikey_grant('import', 'bob'), apikey_grant('servers', 'fleet')});
sub as_bob { return sql("SET ROLE bob; $_[0]") }
sub credits { return as_bob("SELECT credits FROM apikeys WHERE name = '$_[0]'") }
sub account { return sql("SELECT credits_account FROM apikey_key WHERE name = '$_[0]'") }
sub generation { return sql("SELECT generation FROM apikey_credit c JOIN apikey_key k ON k.credits_account = c.id WHERE k.name = '$_[0]'") }
sub create
{
	my ($name, $credits) = @_;
	my $key = as_bob("SELECT apikey_create('$name')");
	as_bob("UPDATE apikeys SET credits = $credits WHERE name = '$name'");
	return $key;
}

# A server leases, and returns, by the calls of a member.
my $server = '00000000-0000-4000-8000-0000000000a1';
my $token = '00000000-0000-4000-8000-000000000001';
my $system = sql('SELECT system_identifier FROM pg_control_system()');
my $epoch = (split /\|/, sql("SET ROLE fleet; SELECT known, epoch FROM apikey_server_join('$server', '{}', '$token', 'paris', 'standby', '0.2.0', $system, false)"))[1];
sub lease { my ($account, $number, $most) = @_; return sql("SET ROLE fleet; SELECT granted FROM apikey_server_lease('$server', $epoch, '{$account}', '{$number}', '{0}', '{0}', '{$most}', '{$most}', '{f}')") }
sub give_back { my ($account, $number, $unspent) = @_; return sql("SET ROLE fleet; SELECT apikey_server_return('$server', $epoch, '{$account}', '{$number}', '{$unspent}')") }

# How the credits of a key are taken away and given again.
sub imported
{
	my ($key, $name) = @_;
	as_bob("SELECT apikey_delete(apikey_id('$key'), '$name')");
	as_bob(sprintf "SELECT apikey_import('%s', 'sha256', '%s', '%s')", $name, sha256_hex($key), substr $key, 0, -39);
	as_bob("UPDATE apikeys SET credits = 50 WHERE name = '$name'");
}
my %again = (
	taken => sub { as_bob("UPDATE apikeys SET credits = NULL WHERE name = '$_[1]'"); as_bob("UPDATE apikeys SET credits = 50 WHERE name = '$_[1]'") },
	together => sub { as_bob("BEGIN; UPDATE apikeys SET credits = NULL WHERE name = '$_[1]'; UPDATE apikeys SET credits = 50 WHERE name = '$_[1]'; COMMIT") },
	set => sub { as_bob("UPDATE apikeys SET credits = 50 WHERE name = '$_[1]'") },
	imported => \&imported);

my $number = 10;
for my $how (sort keys %again)
{
	my $key = create("spent-$how", 100);
	is(as_bob("SELECT code, credits FROM apikey_verify('$key', cost => 90)"), 'valid|10', "$how: ninety are spent");
	my ($account, $before) = (account("spent-$how"), generation("spent-$how"));
	$again{$how}->($key, "spent-$how");
	is(account("spent-$how"), $account, 'the account has the same id');
	isnt(generation("spent-$how"), $before, 'and another generation');
	sql(qq{SELECT apikey_charge(apikey_id('$key'), '{"requests": -90}', owner => 'bob')});
	is(credits("spent-$how"), 50, 'and nothing of it is given back');
	is(as_bob("SELECT code, credits FROM apikey_verify('$key', cost => 20)"), 'valid|30', 'what is spent now');
	sql(qq{SELECT apikey_charge(apikey_id('$key'), '{"requests": -90}', owner => 'bob')});
	is(credits("spent-$how"), 50, 'is, and no more');

	$key = create("leased-$how", 1000);
	$account = account("leased-$how");
	is(lease($account, ++$number, 500), 500, "$how: five hundred are leased");
	$again{$how}->($key, "leased-$how");
	is(give_back($account, $number, 500), 1, 'and returned later');
	is(credits("leased-$how"), 50, 'which is nothing');
	is(lease($account, ++$number, 20), 20, 'what is leased now');
	is(give_back($account, $number, 20), 1, 'and returned');
	is(credits("leased-$how"), 50, 'is');
}

# Intervals that come back, and what was rolled back, have other generations, too.
my $key = create('refilled', 100);
as_bob("UPDATE apikeys SET credits_refill = 100, credits_interval = '1 year' WHERE name = 'refilled'");
my %seen = (generation('refilled') => 1);
as_bob("BEGIN; UPDATE apikeys SET credits = 70 WHERE name = 'refilled'; ROLLBACK");
as_bob("UPDATE apikeys SET credits_refill = $_->[0], credits_interval = $_->[1] WHERE name = 'refilled'"), $seen{ generation('refilled') }++
	for ['NULL', 'NULL'], [ 100, "'1 year'" ], ['NULL', 'NULL'];
is(scalar(keys %seen), 4, 'each interval begins a generation');

# A limit's account is a new one, with what is never 0 or below.
sql("SELECT apikey_limit_set('tokens', 100, NULL, 'balance', key => apikey_id('$key'))");
cmp_ok(sql('SELECT min(generation) FROM apikey_credit'), '>', 0, 'no generation is there by default');
$node->stop;
done_testing();
