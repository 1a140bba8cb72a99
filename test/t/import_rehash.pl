# Imported keys with the library preloaded: verification writes nothing, the
# worker gives them the native digest; on a standby, across a change of the
# pepper, a dump, and a database that is dropped.
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use Digest::SHA qw(hmac_sha256_hex sha256 sha256_hex sha512_hex);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $file = "$dir/pepper";
my ($old, $new) = ('old-' . 'x' x 40, 'new-' . 'y' x 40);

sub write_file
{
	my ($content) = @_;
	unlink $file;
	open my $out, '>', $file or die $!;
	chmod 0600, $file;
	print $out $content;
	close $out;
}

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = 100
});
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
sql('CREATE EXTENSION apikey CASCADE');
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
my $warm = $standby->background_psql('postgres');
my $ask = 'SELECT code FROM apikey_verify(%s)';
is($warm->query_safe(sprintf $ask, "'from elsewhere'"), 'malformed', 'nothing imported yet');

sql(qq{SELECT apikey_import('one', 'md5', '@{[md5_hex('from elsewhere')]}'),
	apikey_import('two', 'sha512', '@{[sha512_hex('from elsewhere too')]}'),
	apikey_import('three', 'crypt', crypt('elsewhere_1234567890', gen_salt('bf', 4)), 'elsewhere_', rate_limit => 2)});
$node->wait_for_catchup($standby);
is($warm->query_safe(sprintf $ask, "'from elsewhere'"), 'valid', 'a warm session of a standby learns of it');
is($warm->query_safe(sprintf $ask, "'elsewhere_1234567890'"), 'valid', 'crypt on a standby');
is($warm->query_safe(sprintf $ask, "'elsewhere_1234567891'"), 'malformed', 'a wrong one');

# Nothing is written by the verification itself.
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN READ ONLY');
is($session->query_safe(sprintf $ask, "'from elsewhere'"), 'valid', 'in a transaction that only reads');
is($session->query_safe(q{SELECT pg_current_xact_id_if_assigned() IS NULL}), 't', 'no transaction id');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM apikey_events WHERE event = 'rehashed' AND key_name = 'one'}), 'the worker writes it');
$session->query_safe('COMMIT');
is(sql(q{SELECT encode(digest, 'hex') FROM apikey_import JOIN apikey_key USING (id) WHERE name = 'one'}),
	hmac_sha256_hex(sha256('from elsewhere'), ''), 'as a native digest');
is(sql(q{SELECT masked_key FROM apikeys WHERE name = 'three'}), 'ak_...', 'what is not known is not shown');
is(sql(sprintf $ask, "'elsewhere_1234567890'"), 'valid', 'crypt');
ok($node->poll_query_until('postgres', q{SELECT masked_key = 'ak_...7890' FROM apikeys WHERE name = 'three'}), 'its last four characters are known now');
# Its limit and its uses count, too.
is(sql(q{SELECT code, rate_remaining FROM apikey_verify('elsewhere_1234567890')}), 'valid|0', 'a rate limit');
is(sql(q{SELECT code FROM apikey_verify('elsewhere_1234567890')}), 'rate_limited', 'spent');
is(sql(q{SELECT use_count, denied_count FROM apikeys WHERE name = 'three'}), '2|1', 'counts');
$node->wait_for_catchup($standby);
is($warm->query_safe(sprintf $ask, "'from elsewhere'"), 'valid', 'the standby follows');

# Native keys, and what is none, cost no read of the table of imported keys.
sql('CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION apikey CASCADE');
my $reads = q{SELECT seq_scan + idx_scan FROM pg_stat_user_tables WHERE relname = 'apikey_import'};
my $reads_before = $node->safe_psql('other', $reads);
is($node->safe_psql('other', q{SELECT count(*) FROM generate_series(1, 10) i, apikey_verify('none ' || i) WHERE code = 'malformed';
	SELECT pg_stat_force_next_flush()}), "10\n", 'a database without imported keys');
is($node->safe_psql('other', $reads), $reads_before, 'has no read of them');
$node->safe_psql('other', qq{SELECT apikey_import('one', 'md5', '@{[md5_hex('other')]}'); SELECT code FROM apikey_verify('other')});
my $log = -s $node->logfile;
sql('DROP DATABASE other');
for (1 .. 8)
{
	my $flushed = sql(q{SELECT code, coalesce(last_flush_at, '-infinity') FROM apikey_verify('from elsewhere'), apikey_stats});
	$flushed =~ s/valid\|// or die $flushed;
	ok($node->poll_query_until('postgres', "SELECT last_flush_at > '$flushed' FROM apikey_stats"), 'a flush');
}
# The workers that were about to start while it was dropped, one a seat, and no
# other, however often the others are looked after.
my @missed = slurp_file($node->logfile, $log) =~ /FATAL:  database "?\d+"? does not exist/g;
cmp_ok(scalar(@missed), '<=', 3, 'nothing is left for a dropped database');

# Another pepper: the imported hash and the native digest hang on what was.
write_file("$old\n");
$node->append_conf('postgresql.conf', "apikey.pepper_file = '$file'");
$node->restart;
$session = $node->background_psql('postgres');
is($session->query_safe(sprintf $ask, "'from elsewhere'"), 'valid', 'a digest without a pepper');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM apikey_import JOIN apikey_key USING (id) WHERE name = 'one' AND pepper <> 0}), 'moves to the pepper');
is(sql(q{SELECT encode(digest, 'hex') FROM apikey_import JOIN apikey_key USING (id) WHERE name = 'one'}),
	hmac_sha256_hex(sha256('from elsewhere'), $old), 'as a native digest');
is($session->query_safe(sprintf $ask, "'from elsewhere too'"), 'valid', 'a hash that was imported before');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM apikey_import JOIN apikey_key USING (id) WHERE name = 'two' AND pepper <> 0}), 'moves, too');
sql(qq{SELECT apikey_import('four', 'sha256', '@{[sha256_hex('fourth')]}'), apikey_import('five', 'crypt', crypt('fifth_1234567', gen_salt('bf', 4)), 'fifth_12')});
is(sql(qq{SELECT count(*) FROM apikey_import WHERE foreign_digest IN (hmac(digest('fourth', 'sha256'), '', 'sha256'), digest('fourth', 'sha256'))}), '0', 'no hash that could be tried without it');
# A dump is not enough to forge one.
$session->quit;
sql('CREATE DATABASE stolen TEMPLATE postgres');
is($node->safe_psql('stolen', q{UPDATE apikey_import i SET digest = hmac(digest('forged', 'sha256'), '', 'sha256'), pepper = (SELECT max(pepper) FROM apikey_import)
	FROM apikey_key k WHERE k.id = i.id AND name = 'four'; SELECT code FROM apikey_verify('fourth')}), 'malformed', 'without the pepper its digest is not the one');
my $before = sql(q{SELECT pepper FROM apikey_import JOIN apikey_key USING (id) WHERE name = 'one'});
write_file("$new\n$old\n");
$node->restart;
is(sql(join ' UNION ALL ', map { sprintf $ask, "'$_'" } 'from elsewhere', 'fourth', 'fifth_1234567'), "valid\nvalid\nvalid", 'an old pepper is accepted');
ok($node->poll_query_until('postgres', qq{SELECT count(*) = 3 FROM apikey_import JOIN apikey_key USING (id) WHERE name IN ('one', 'four', 'five') AND pepper <> $before}), 'and left behind');
write_file("$new\n");
$node->restart;
is(sql(join ' UNION ALL ', map { sprintf $ask, "'$_'" } 'from elsewhere', 'fourth', 'fifth_1234567', 'from elsewhere too'), "valid\nvalid\nvalid\nmalformed",
	'those that were used have moved, the others hang on what is gone');
unlink $file;
$node->restart;
is(sql(join ' UNION ALL ', map { sprintf $ask, "'$_'" } 'from elsewhere', 'x'), "unavailable\nunavailable", 'without the file nothing is decided');
write_file("$new\n");
$node->restart;

# A dump and restore.
my $plain = "$dir/dump";
$node->command_ok([ 'pg_dump', '-f', $plain, 'postgres' ], 'dump');
sql('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $plain, 'restored' ], 'restore');
is($node->safe_psql('restored', join ' UNION ALL ', map { sprintf $ask, "'$_'" } 'from elsewhere', 'fourth'), "valid\nvalid", 'restored');
unlike(slurp_file($plain), qr/from elsewhere|@{[md5_hex('from elsewhere')]}/, 'neither key nor hash in it');
$warm->quit;
$standby->stop;
$node->stop;
done_testing();
