# Credits that were spent stay spent after a crash, where commits are
# asynchronous and the library is not preloaded.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', qq{
	fsync = off
	autovacuum = off
	wal_writer_delay = '10s'
	wal_writer_flush_after = 0});
$node->start;
my $key = $node->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE;
	SELECT apikey_create('spent', credits => 10)});
$key =~ s/.*\n//s;
is( $node->safe_psql('postgres', qq{
	SET synchronous_commit = off;
	SELECT code FROM apikey_verify('$key');
	SELECT code FROM apikey_verify('$key', cost => 2);}),
	"valid\nvalid", 'credits are spent');
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', 'SELECT credits FROM apikeys'), '7', 'and stay spent');
$node->stop;
done_testing();
