# A shared rate that was there before the server's start begins with nothing, as
# nobody knows what was spent of it; one that is set later begins full.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
autovacuum = off
});
$node->start;
sub sql { return $node->safe_psql('postgres', join '; ', @_) }
sql('CREATE EXTENSION apikey CASCADE');
my $key = sql(q{SELECT apikey_create('shared')});
sub set
{
	my ($unit, $amount) = @_;
	return sql("SELECT apikey_limit_set('$unit', " . ($amount // 3600) . ", '1 day', key => apikey_id('$key'), shared => true)");
}
# 24 seconds a token: nothing comes back while this runs.
sub code
{
	my ($unit, $cost) = @_;
	return sql("SELECT code FROM apikey_verify('$key', cost => 0, costs => '{\"$unit\": $cost}')");
}
sub left { my ($unit) = @_; return sql("SELECT remaining FROM apikey_limits WHERE unit = '$unit'") }
sub has_nothing
{
	my ($unit, $what) = @_;
	cmp_ok(left($unit), '<', 100, "$what: the view tells that nothing is left");
	is(code($unit, 100), 'rate_limited', "$what: nothing passes");
}

note 'Right after the first start.';
set($_) for 'spent', 'unasked', 'later';
is(left('spent'), 3600, 'a new one is full, the view tells');
is(code('spent', 3600), 'valid', 'and passes');
has_nothing('spent', 'spent');
set('spent', 7200);
has_nothing('spent', 'replaced');
sql("UPDATE apikeys SET description = 'x' WHERE name = 'shared'", "UPDATE apikey_limits SET amount = 3600 WHERE unit = 'spent'");
has_nothing('spent', 'changed');
is(sql('BEGIN', "SELECT apikey_limit_set('undone', 9, '1 day', key => apikey_id('$key'), shared => true) \\g /dev/null
SELECT code FROM apikey_verify('$key', cost => 0, costs => '{\"undone\": 9}')", 'ROLLBACK'), 'valid', 'within the transaction that sets it');

note 'A clean restart goes on.';
$node->restart;
has_nothing('spent', 'restarted');
is(left('unasked'), 3600, 'what is full');
is(code('unasked', 1), 'valid', 'passes');

note 'After a crash nobody knows.';
sub crash { $node->stop('immediate'); $node->start }
crash();
has_nothing($_, 'crashed') for 'spent', 'unasked';
set('after');
is(left('after'), 3600, 'one that is set now is full, the view tells');
is(code('after', 3600), 'valid', 'and passes');
$node->restart;
has_nothing($_, 'crashed, then restarted') for 'spent', 'later', 'after';
sql("UPDATE apikey_limit SET created_at = now() + interval '1 hour'");
crash();
has_nothing($_, 'made in the future') for 'spent', 'later', 'after';

note 'Nor does who restores a dump, in this lifetime too.';
set('restored');
is(code('restored', 3600), 'valid', 'spent');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'dump');
sql('DROP EXTENSION apikey');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'postgres' ], 'restore');
has_nothing('restored', 'restored');
sql('CREATE DATABASE copy TEMPLATE postgres');
is($node->safe_psql('copy', "SELECT code FROM apikey_verify('$key', cost => 0, costs => '{\"restored\": 100}')"), 'rate_limited', 'nor a copy');

note 'Nor a server that is promoted.';
$node->backup('backup');
set($_) for 'old', 'old_unasked';
my @standbys = map {
	my $standby = PostgreSQL::Test::Cluster->new($_);
	$standby->init_from_backup($node, 'backup', has_streaming => 1);
	$standby->start;
	$standby } 'asked', 'restarted';
is(code('old', 3600), 'valid', 'spent on the primary');
$node->wait_for_catchup($_, 'replay', $node->lsn('flush')) for @standbys;
is($_->safe_psql('postgres', "SELECT count(*) FROM apikey_limits WHERE remaining IS NOT NULL OR resets_at IS NOT NULL"), 0, 'a standby does not know what is left') for @standbys;
$node->stop('immediate');
for my $standby (@standbys)
{
	$standby->promote;
	$standby->restart if $standby->name eq 'restarted';
	$node = $standby;
	has_nothing($_, 'promoted, ' . $standby->name) for 'old', 'old_unasked';
	set('new');
	is(code('new', 3600), 'valid', 'one that is set there is full');
	$standby->stop;
}
done_testing();
