# Thousands of keys move to a new pepper: soon, on their first use or, where there
# was no room or somebody had their rows, on the next; all verify all the time.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $keys = 12000;	# more than find room at once
my $file = PostgreSQL::Test::Utils::tempdir() . '/peppers';
my %peppers = map { $_ => "$_-" . 'x' x 40 } qw(old new next gone);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
write_peppers('old');
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
apikey.pepper_file = '$file'
});
$node->start;
$node->safe_psql('postgres', qq{
	CREATE EXTENSION apikey CASCADE;
	CREATE TABLE k AS SELECT i, apikey_create('key-' || i) AS key FROM generate_series(1, $keys) i});
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;

sub write_peppers
{
	open my $out, '>', "$file.new" or die $!;
	print $out "$peppers{$_}\n" for @_;
	close $out;
	chmod 0600, "$file.new";
	rename "$file.new", $file or die $!;
}

sub change_peppers
{
	write_peppers(@_);
	for ($node, $standby)
	{
		$_->reload;
		ok($_->poll_query_until('postgres', "SELECT count(*) = @{[scalar @_]} FROM apikey_peppers WHERE place IS NOT NULL"), "the peppers are @_");
	}
}

# How many keys are of each pepper of the file; 0 stands for none of them.
sub counts { return $node->safe_psql('postgres', q{SELECT string_agg(coalesce(place, 0) || ':' || keys, ' ' ORDER BY place) FROM apikey_peppers}) }
sub moved { return $node->safe_psql('postgres', q{SELECT count(*) FROM apikey_event WHERE event = 'rehashed'}) }
sub verify_some { return "SELECT count(*) FROM k WHERE CASE WHEN i <= $_[0] THEN apikey_check(key) END" }
my $verify = 'SELECT count(*) FROM k WHERE apikey_check(key)';
my $session = $node->background_psql('postgres');
my $reader = $standby->background_psql('postgres');
is($session->query_safe($verify), $keys, 'all verify');
is(counts(), "1:$keys", 'by one pepper');

change_peppers('new', 'old');
is($session->query_safe(verify_some(3000)), 3000, 'many verify by the old pepper');
ok($node->poll_query_until('postgres', q{SELECT count(*) >= 1024 FROM apikey_event WHERE event = 'rehashed'}), 'that does not wait for a flush');
$node->safe_psql('postgres', 'SELECT apikey_flush()');
is(counts(), '1:3000 2:' . ($keys - 3000), 'so many have moved');
is($session->query_safe($verify), $keys, 'all verify');
$node->wait_for_catchup($standby);
is($reader->query_safe($verify), $keys, 'on the standby too');

# Whoever has a digest's row holds up its key alone.
$node->safe_psql('postgres', 'SELECT apikey_flush()');
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN');
my $held = $holder->query_safe(q{SELECT count(*) FROM (SELECT FROM apikey_digest JOIN (SELECT pepper FROM apikey_digest GROUP BY 1 ORDER BY count(*) LIMIT 1) old USING (pepper) LIMIT 300 FOR UPDATE OF apikey_digest) held});
is($held, 300, 'somebody has 300 of the others');
for (1 .. 10)
{
	last if counts() eq "1:@{[$keys - 300]} 2:300";
	is($session->query_safe($verify), $keys, 'all verify');
	$node->safe_psql('postgres', 'SELECT apikey_flush()');
}
is(counts(), "1:@{[$keys - 300]} 2:300", 'the others have moved, with whom there was no room at first');
$holder->query_safe('COMMIT');
$node->safe_psql('postgres', 'SELECT apikey_flush()');
is(counts(), "1:$keys 2:0", 'and these without another use');
is(moved(), $keys, 'an event tells of each');

# Nor does who has the rows of more keys than find room keep others' from moving.
change_peppers('next', 'new');
$holder->query_safe('BEGIN; SELECT FROM apikey_digest JOIN k ON id = apikey_id(key) WHERE i > 10 FOR UPDATE OF apikey_digest');
is($session->query_safe(verify_some($keys) . ' AND i > 10'), $keys - 10, 'many verify whose rows somebody has');
$node->safe_psql('postgres', 'SELECT apikey_flush()');
# One finds no room where nothing of its bucket has been tried yet.
for (1 .. 10)
{
	last if counts() eq "1:10 2:@{[$keys - 10]}";
	is($session->query_safe(verify_some(10)), 10, 'some verify whose rows nobody has');
	$node->safe_psql('postgres', 'SELECT apikey_flush()');
}
is(counts(), "1:10 2:@{[$keys - 10]}", 'these have moved');
$holder->query_safe('ROLLBACK');
change_peppers('new', 'next');
for (1 .. 10)
{
	last if counts() eq "1:$keys 2:0";
	is($session->query_safe($verify), $keys, 'all verify');
	$node->safe_psql('postgres', 'SELECT apikey_flush()');
}
is(counts(), "1:$keys 2:0", 'all have moved back');

# What is left of a pepper that is taken out again is not written.
$holder->query_safe('BEGIN; LOCK TABLE apikey_digest IN SHARE MODE');
change_peppers('gone', 'new', 'old');
is($session->query_safe(verify_some(500)), 500, 'some verify while the pepper is another');
$node->safe_psql('postgres', 'SELECT apikey_flush()');
is(counts(), "1:0 2:$keys 3:0", 'a table that is locked is not waited for');
change_peppers('new', 'old');
$holder->query_safe('COMMIT');
$node->safe_psql('postgres', 'SELECT apikey_flush()');
is(counts(), "1:$keys 2:0", 'nothing has moved');
is($session->query_safe($verify), $keys, 'all verify');
change_peppers('new');
is($_->query_safe($verify), $keys, 'all verify without the old pepper') for $session, $reader;
$_->quit for $session, $reader, $holder;
$_->stop for $standby, $node;
unlike(slurp_file($node->logfile), qr/ERROR|PANIC|deadlock/, 'no error');
done_testing();
