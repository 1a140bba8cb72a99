# What was acknowledged outlives a restart and a crash.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');

my $kept = $node->safe_psql('postgres', q{SELECT apikey_create('kept')});
my $revoked = $node->safe_psql('postgres', q{SELECT apikey_create('revoked')});
$node->safe_psql('postgres', qq{SELECT apikey_revoke(apikey_id('$revoked'))});

sub codes
{
	return $node->safe_psql('postgres',
		join ' UNION ALL ', map { "SELECT code FROM apikey_verify('$_')" } @_);
}

$node->restart;
is(codes($kept, $revoked), "valid\nrevoked", 'after a restart');

my $late = $node->safe_psql('postgres', q{SELECT apikey_create('late')});
$node->safe_psql('postgres', qq{SELECT apikey_revoke(apikey_id('$kept'), 'lost')});
$node->stop('immediate');
$node->start;
is(codes($kept, $revoked, $late), "revoked\nrevoked\nvalid", 'after a crash');
is( $node->safe_psql('postgres',
		q{SELECT name, status, revoke_reason FROM apikeys ORDER BY name}),
	"kept|revoked|lost\nlate|active|\nrevoked|revoked|",
	'the list after a crash');

$node->stop;
done_testing();
