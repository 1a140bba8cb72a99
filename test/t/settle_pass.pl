# The worker's pass through revocations begins anew once there have been none:
# what comes then is settled at once, whatever its id.
use strict;
use warnings;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $many = 20_000;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
autovacuum = off
fsync = off
});
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub revocations
{
	my ($id, $count) = @_;
	sql(qq{INSERT INTO apikey_revocation (id, key_id, revoked_at, revoked_by, removed, disabled)
		SELECT $id, gen_random_uuid(), now(), 'anna', false, false FROM generate_series(1, $count)});
}
sub left { return sql('SELECT count(*) FROM apikey_revocation') }

sql('CREATE EXTENSION apikey CASCADE');
sql('SELECT apikey_flush()');
# All go while the worker is amid them: it waits for that between two steps.
revocations('gen_random_uuid()', $many);
my $worker = IPC::Run::start(['psql', '-XAtqd', $node->connstr('postgres'), '-c', 'SELECT apikey_flush()'], '>', \my $out, '2>', \my $err);
my $until = time() + $PostgreSQL::Test::Utils::timeout_default;
usleep(1000) while left() == $many && time() < $until;
sql('TRUNCATE apikey_revocation');
$worker->finish;
# The least id of all.
revocations("'00000000-0000-4000-8000-000000000000'", 1);
sql('SELECT apikey_flush()');
is(left(), '0', 'what comes after that is settled');

$node->stop;
done_testing();
