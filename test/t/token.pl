# Tokens beyond one session: what forges none, other databases and servers, the
# pepper's rotation, the server's log.
use strict;
use warnings;
use Compress::Raw::Zlib ();
use Digest::SHA qw(hmac_sha256 sha256);
use MIME::Base64 qw(encode_base64url decode_base64url);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $old = 'old-' . 'x' x 40;
my $new = 'new-' . 'y' x 40;

sub write_file
{
	my ($content) = @_;
	unlink "$dir/pepper";
	open my $out, '>', "$dir/pepper" or die $!;
	chmod 0600, "$dir/pepper";
	print $out $content;
	close $out;
}

sub base62
{
	my ($number, $len) = @_;
	my @digits = ('0' .. '9', 'A' .. 'Z', 'a' .. 'z');
	my $text = '';
	for (1 .. $len)
	{
		$text = $digits[ $number % 62 ] . $text;
		$number = int($number / 62);
	}
	return $text;
}

# Ends a text with its checksum, as anybody can.
sub complete { my ($text) = @_; return $text . base62(Compress::Raw::Zlib::crc32($text), 6) }

write_file("$old\n");
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'
apikey.pepper_file = '$dir/pepper'
apikey.flush_interval = '100ms'
wal_level = logical
log_statement = all
max_prepared_transactions = 2");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
sub sql { return $node->safe_psql('postgres', @_) }
sub code { my ($text, $other) = @_; return ($other // $node)->safe_psql('postgres', "SELECT code FROM apikey_verify('$text')") }

my $key = sql(q{SELECT apikey_create('main', scopes => '{a:*}')});
my $other = sql(q{SELECT apikey_create('other')});
my $id = sql("SELECT apikey_id('$key')");
my $token = sql("SELECT apikey_token_create('$key')");
my $narrow = sql("SELECT apikey_token_create('$key', '1 minute', '{a:x}')");
my $others = sql("SELECT apikey_token_create('$other')");
is(code($token), 'valid', 'a token');
is(sql("SELECT scopes FROM apikey_verify('$narrow')"), '{a:x}', 'a narrow one');
like($token, qr/^[a-z][a-z0-9_]{0,19}_t_[0-9A-Za-z_-]{40,480}$/, 'its shape');
is(complete(substr($token, 0, -6)), $token, 'its checksum is the CRC-32 of what stands before');

# What it says, and what proves it.
my ($message, $mac) = $token =~ /^ak_t_(.+)(.{43}).{6}$/;
my $read = decode_base64url($message);
is(unpack('H*', substr($read, 1, 16)), $id =~ tr/-//dr, 'it carries the id of its key');
my $stored = pack('H*', sql("SELECT encode(digest, 'hex') FROM apikey_digest WHERE id = '$id'"));
my $system = sql('SELECT system_identifier FROM pg_control_system()');
my $database = sql(q{SELECT oid FROM pg_database WHERE datname = 'postgres'});
sub mac_of
{
	my ($pepper, $stored, $text, $database) = @_;
	return hmac_sha256(pack('QL', $system, $database) . $text, hmac_sha256($stored . 'apikey token v1', $pepper));
}
is(encode_base64url(mac_of($old, $stored, "ak_t_$message", $database)), $mac, 'and the MAC that the documentation says');

sub forged { my ($text, $mac) = @_; return complete($text . encode_base64url($mac)) }
my %forged = (
	'without the pepper' => forged("ak_t_$message", mac_of('', $stored, "ak_t_$message", $database)),
	'by what is stored as the key' => forged("ak_t_$message", hmac_sha256("ak_t_$message", $stored)),
	'without what is stored' => forged("ak_t_$message", mac_of($old, "\0" x 32, "ak_t_$message", $database)),
	'of another database' => forged("ak_t_$message", mac_of($old, $stored, "ak_t_$message", $database + 1)),
	'with the MAC of another key' => complete("ak_t_$message" . ($others =~ /(.{43}).{6}$/)[0]),
	'with the MAC of another token' => complete("ak_t_$message" . ($narrow =~ /(.{43}).{6}$/)[0]),
	'without a MAC' => forged("ak_t_$message", "\0" x 32),
	'with another prefix' => complete("sk_t_$message$mac"),
	'with a longer prefix' => complete("xak_t_$message$mac"),
	'a bit of the MAC turned' => forged("ak_t_$message", decode_base64url($mac) ^ ("\0" x 31 . "\1")),
	'a bit of the MAC turned at its beginning' => forged("ak_t_$message", decode_base64url($mac) ^ ("\x80" . "\0" x 31)));
is(code($forged{$_}), 'not_found', "forged: $_") for sort keys %forged;
for my $at (1 .. 29)
{
	my $changed = $read;
	substr($changed, $at, 1) = chr(ord(substr($changed, $at, 1)) ^ 1);
	my $text = complete('ak_t_' . encode_base64url($changed) . $mac);
	# One says how long the text is.
	is(code($text), $at == 28 ? 'malformed' : 'not_found', "changed: byte $at of what it says");
}
my $longer = $read;
substr($longer, 17, 8) = pack('q>', unpack('q>', substr($longer, 17, 8)) + 60e6);
is(code(complete('ak_t_' . encode_base64url($longer) . $mac)), 'not_found', 'made to last longer');
is(code(complete('ak_t_' . encode_base64url(decode_base64url(($narrow =~ /^ak_t_(.+).{49}$/)[0]) =~ s/a:x/a:y/r) . ($narrow =~ /(.{43}).{6}$/)[0])),
	'not_found', 'for another scope');

# The same bytes in other characters are no token.
for my $tail ('A' .. 'Z', 'a' .. 'z', 0 .. 9, '-', '_')
{
	next if $tail eq substr($mac, -1) || substr($mac, 0, -1) . $tail eq $mac;
	my $text = complete('ak_t_' . $message . substr($mac, 0, -1) . $tail);
	my $same = decode_base64url(substr($mac, 0, -1) . $tail) eq decode_base64url($mac);
	is(code($text), $same ? 'malformed' : 'not_found', 'written otherwise') if $same;
}

# A text with a key's shape and checksum is a key, whatever its prefix; those
# of 0.1.0 may be any.
my $shaped = complete('ak_t_' . substr($key, 3, 55));
my $row = sql('SELECT attname FROM pg_attribute WHERE false');
sql("UPDATE apikey_key SET prefix = 'ak_t' WHERE id = apikey_id('$other')");
my $same_shape = complete('ak_t_' . substr($other, 3, 55));
$node->safe_psql('postgres', "UPDATE apikey_digest SET digest = decode('"
	. unpack('H*', hmac_sha256(sha256($same_shape), $old)) . "', 'hex') WHERE id = apikey_id('$other')");
is(code($same_shape), 'valid', 'a key whose prefix ends as that of a token');
my $of_same = sql("SELECT apikey_token_create('$same_shape')");
like($of_same, qr/^ak_t_t_/, 'has tokens');
is(code($of_same), 'valid', 'that verify');
is(sql("SELECT (apikey_parse('$of_same')).prefix"), 'ak_t', 'and say the prefix');
is(sql("SELECT apikey_id('$same_shape') = apikey_id('$of_same')"), 't', 'and the id');
is(code($shaped), 'not_found', 'a text with the shape of a key is looked for among keys');

# Another database, by a copy or a dump, accepts none.
sql('CREATE DATABASE copy TEMPLATE postgres');
is($node->safe_psql('copy', "SELECT code FROM apikey_verify('$key')"), 'valid', 'a copy of the database has the key');
is($node->safe_psql('copy', "SELECT code FROM apikey_verify('$token')"), 'not_found', 'and not its tokens');
is($node->safe_psql('copy', "SELECT code FROM apikey_verify(apikey_token_create('$key'))"), 'valid', 'but its own');

# A standby, which makes them too.
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
is(code($token, $standby), 'valid', 'on a standby');
my $there = $standby->safe_psql('postgres', "SELECT apikey_token_create('$key', scopes => '{a:1}')");
is(code($there), 'valid', 'one that was made there');
my $session = $standby->background_psql('postgres');
my $mine = $node->background_psql('postgres');
is($session->query_safe("SELECT code FROM apikey_verify('$token')"), 'valid', 'a warm session on the standby');
is($mine->query_safe("SELECT code FROM apikey_verify('$token')"), 'valid', 'and on the primary');
sql("SELECT apikey_disable('$id')");
is($mine->query_safe("SELECT code FROM apikey_verify('$token')"), 'disabled', 'hears of the key');
$node->wait_for_catchup($standby);
is($session->query_safe("SELECT code FROM apikey_verify('$token')"), 'disabled', 'there, too');
sql("SELECT apikey_enable('$id')");
$node->wait_for_catchup($standby);
is($session->query_safe("SELECT code FROM apikey_verify('$token')"), 'valid', 'each time');

# Counts are the key's.
my $count = sql("SELECT use_count FROM apikeys WHERE id = '$id'");
sql("SELECT apikey_check('$token'), apikey_check('$token'), apikey_token_create('$key')");
is(sql("SELECT use_count FROM apikeys WHERE id = '$id'"), $count + 2, 'uses count as the key\'s, making none');

# Rotation of the pepper: nothing changes before the key is keyed with the new one.
my $warm = $node->background_psql('postgres');
is($warm->query_safe("SELECT code FROM apikey_verify('$token')"), 'valid', 'warm');
sub reload
{
	$node->reload;
	my $at = sql('SELECT pg_conf_load_time()');
	$warm->query_safe('SELECT 1') until $warm->query_safe("SELECT pg_conf_load_time() > now() - interval '5 seconds'") eq 't';
}
write_file("$new\n$old\n");
reload();
is($warm->query_safe("SELECT code FROM apikey_verify('$token')"), 'valid', 'with a new pepper before the old one');
is(code($token), 'valid', 'in a new session, too');
my $between = sql("SELECT apikey_token_create('$key')");
is($warm->query_safe("SELECT code FROM apikey_verify('$between')"), 'valid', 'one that is made now');
is($warm->query_safe("SELECT code FROM apikey_verify('$key')"), 'valid', 'a use of the key');
$node->poll_query_until('postgres', "SELECT encode(digest, 'hex') = '" . unpack('H*', hmac_sha256(sha256($key), $new)) . "' FROM apikey_digest WHERE id = '$id'")
	or die 'the key is not keyed with the new pepper';
is($warm->query_safe("SELECT code FROM apikey_verify('$_')"), 'not_found', 'ends what was made before') for $token, $between;
$token = sql("SELECT apikey_token_create('$key')");
is(code($token), 'valid', 'one by the new pepper');
my $late = sql("SELECT apikey_token_create('$same_shape')");
write_file("$new\n");
reload();
is($warm->query_safe("SELECT code FROM apikey_verify('$token')"), 'valid', 'goes on without the old one');
is(code($late), 'unavailable', 'one whose key is keyed with a pepper that is gone');
is(code($same_shape), 'unavailable', 'as the key itself');

# Nothing of one in the log, nor in what sessions are seen to do; cut ones and
# pieces neither, wherever the lexer takes them apart.
$node->append_conf('postgresql.conf', 'log_min_messages = notice');
$node->reload;
is($node->poll_query_until('postgres', "SELECT current_setting('log_min_messages') = 'notice'"), 1, 'the log has notices');
my $offset = -s $node->logfile;
my %macs = map { $_ => $_ . 'KLMNOPqrstuvWXYZabcdefghijk0123456789abcdE' } qw(A -9 -0x -1e a-7 abcdefgh- abcdefgh-9 abcdefghij-k-9 -9abcdefgh-8), '-9abcdefghijklm--8';
my @tokens = ($token, map { complete("ak_t_$message" . substr($_, 0, 42) . 'E') } sort values %macs);
for my $each (@tokens)
{
	like($each, qr/^ak_t_.{40}.{43}.{6}$/, 'has the shape of a token');
	$node->psql('postgres', "SELECT code FROM apikey_verify('$each')");
	$node->psql('postgres', "SELECT no_such_column, '$each', '$narrow'");
	$node->psql('postgres', "SELECT $_") for $each, qq{"$each"}, "x.$each", "1 AS $each", "$each(1)", "'$each'::jsonb",
		qq('{"a": "$each'::jsonb), '(' . substr($each, 0, 70);
	$node->psql('postgres', "SET search_path = $each; SHOW $each; TABLE $each");
	$node->psql('postgres', "DO \$\$ BEGIN RAISE WARNING '%', '$each'; RAISE EXCEPTION '%...', left('$each', 80); END \$\$");
	$node->psql('postgres', "DO \$\$ BEGIN EXECUTE 'SELECT $each'; END \$\$");
	$node->psql('postgres', "DO \$\$ BEGIN EXECUTE 'SELECT ' || convert_from(decode('" . unpack('H*', $each) . "', 'hex'), 'UTF8'); END \$\$");
	$node->psql('postgres', "DO \$\$ BEGIN RAISE NOTICE '% %', substr('$each', 60), upper(substr('$each', 60, 9)); END \$\$");
}
is(sql("SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid() AND '$token' IS NOT NULL"),
	"SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid() AND 'ak_t_..." . substr($token, -4) . "' IS NOT NULL", 'masked in the activity');
my $log = substr(slurp_file($node->logfile), $offset);
for my $each (@tokens)
{
	my @lines = split /\n/, $log;
	my %seen = map { $_ => 1 } grep { my $piece = lc substr $each, $_, 8; grep { index(lc $_, $piece) >= 0 } @lines } 45 .. length($each) - 8;
	is(join(' ', sort keys %seen), '', 'nothing of a MAC in the log') or diag join "\n", grep { my $line = lc $_; grep { index($line, lc substr $each, $_, 8) >= 0 } keys %seen } @lines;
}
like($log, qr/ak_t_\.\.\.\Q@{[substr $token, -4]}\E/, 'but a mask');
# The lexer may end a piece at a '-' of the id before, which may be shown.
like($log, qr/trailing junk after numeric literal at or near "\w*\.\.\."/, 'what the lexer took apart, too');

# A clock that is set back lets no token last longer; see also limits_clock.pl.
my $future = $read;
substr($future, 17, 8) = pack('q>', unpack('q>', substr($future, 17, 8)) + 3600e6);
my $digest = pack('H*', sql("SELECT encode(digest, 'hex') FROM apikey_digest WHERE id = '$id'"));
my $ahead = 'ak_t_' . encode_base64url($future);
is(code(forged($ahead, mac_of($new, $digest, $ahead, $database))), 'not_yet_valid', 'one that was made when the clock was ahead');

$_->quit for $session, $mine, $warm;
$standby->stop;
$node->stop;
done_testing();
