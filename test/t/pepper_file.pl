# The pepper: what is stored hangs on a secret in a file, and nothing is ever
# decided without it.
use strict;
use warnings;
use Digest::SHA qw(hmac_sha256_hex sha256);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $session;
my $dir = PostgreSQL::Test::Utils::tempdir();
my $file = "$dir/pepper";
my $old = 'old-' . 'x' x 28;
my $new = 'new pepper, with spaces and a length above the block of SHA-256, ' . 'y' x 40;

sub write_file
{
	my ($mode, $content) = @_;
	unlink $file;
	open my $out, '>', $file or die $!;
	chmod $mode, $file;
	print $out $content;
	close $out;
}

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
sub sql { return $node->safe_psql('postgres', @_) }
sub stored { my ($key) = @_; return sql("SELECT encode(digest, 'hex') FROM apikey_digest WHERE id = apikey_id('$key')") }

my $owner = sql('SELECT current_user');
my $plain = sql(q{SELECT apikey_create('plain')});
is(stored($plain), hmac_sha256_hex(sha256($plain), ''), 'without a pepper');

write_file(0600, "\n$old\r\n\n");
$node->append_conf('postgresql.conf', "apikey.pepper_file = '$file'");
$node->restart;
my $first = sql(q{SELECT apikey_create('first')});
is(stored($first), hmac_sha256_hex(sha256($first), $old), 'with one; the line end is not part of it');
is(sql("SELECT code FROM apikey_verify('$plain') UNION ALL SELECT code FROM apikey_verify('$first')"), "valid\nvalid", 'both verify');
my $row = sql("SELECT pepper FROM apikey_digest WHERE id = apikey_id('$first')");
sql(q{SELECT apikey_import('imported', 'crypt', crypt('sk_lookup_one', gen_salt('bf', 4)), 'sk_lookup_'),
	apikey_import('used', 'crypt', crypt('pk_lookup_two', gen_salt('bf', 4)), 'pk_lookup_')});
is(sql(q{SELECT code FROM apikey_verify('pk_lookup_two')}), 'valid', 'an imported key');
isnt($row, '0', 'the row says which it hangs on');
isnt(sprintf('%x', $row & 0xffffffff), substr(unpack('H*', sha256($old)), 0, 8), 'which is no plain digest of it');

# A dump and the code are not enough to forge a key.
sql(q{CREATE DATABASE stolen TEMPLATE postgres});
is($node->safe_psql('stolen', "UPDATE apikey_digest SET digest = hmac(digest('$plain', 'sha256'), '', 'sha256') WHERE id = apikey_id('$first');
	SELECT code FROM apikey_verify('$first')"), 'not_found', 'a digest made without it does not verify');

# A new current pepper; the old one is still accepted, in a warm session too.
$session = $node->background_psql('postgres');

# Reloads, and waits until the warm session has.
sub reload
{
	my $before = $session->query_safe('SELECT pg_conf_load_time()');
	$node->reload;
	for (1 .. 1000)
	{
		return if $session->query_safe('SELECT pg_conf_load_time()') ne $before;
		usleep(10_000);
	}
	die 'the session did not reload';
}
my $ask = sub { return $session->query_safe("SELECT code FROM apikey_verify('$_[0]')") };
is($ask->($first), 'valid', 'a warm session');
write_file(0600, "$new\n$old\n");
reload();
my $second = sql(q{SELECT apikey_create('second')});
is(stored($second), hmac_sha256_hex(sha256($second), $new), 'a new key hangs on the first line');
is($ask->($first), 'valid', 'the old one is still accepted');

# The old one is taken out: nothing is said of its keys, whatever the secret,
# but in the log, which says what an operator must do.
write_file(0600, "$new\n");
reload();
my $log = -s $node->logfile;
is(sql("SELECT code FROM apikey_verify('$first') UNION ALL SELECT code FROM apikey_verify('$second') UNION ALL SELECT code FROM apikey_verify('$plain')"),
	"unavailable\nvalid\nvalid", 'a pepper that is gone');
is(sql(q{SELECT string_agg((SELECT code FROM apikey_verify(key)), ' ') FROM unnest(ARRAY['sk_lookup_one', 'pk_lookup_two', 'pk_lookup_', 'other']) key}),
	'unavailable unavailable unavailable malformed', 'of imported keys, by their lookup');
like(slurp_file($node->logfile, $log), qr/DETAIL:  The pepper that an imported key is keyed with is not in the file/, 'and says so');
is(sql(q{SELECT count(*) FROM apikeys k, apikey_delete(id, name) WHERE name IN ('imported', 'used')}), '2', 'which can be removed');
sql('VACUUM apikey_import');	# so that nothing may be an imported key any more
is($ask->($first), 'unavailable', 'in the warm session too');
is(sql("SELECT code, num_nulls(key_id, name, owner, detail) FROM apikey_verify_digest(left('$first', -39), sha256('wrong'))"), 'unavailable|4',
	'whatever the secret');
my $id = sql("SELECT apikey_id('$first')");
like(slurp_file($node->logfile, $log), qr/WARNING:  some API keys cannot be verified\n.*DETAIL:  API key $id is keyed with the pepper of fingerprint [0-9a-f]{8}, which is not in the file.\n.*HINT:  Add the pepper/,
	'the log says why');
my (undef, undef, $refused) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT apikey_self_revoke('$first')");
like($refused, qr/ERROR:  55000: the pepper of this API key is not in the file/, 'nor is it revoked by its text');

# A file that cannot be used: nothing is decided, and never by the empty pepper.
for (['missing', sub { unlink $file }, 'cannot be opened: No such file or directory'],
	['empty', sub { write_file(0600, "\n \n") }, 'holds no pepper'],
	['short', sub { write_file(0600, "$new\nshort\n") }, 'holds a pepper of less than 32 bytes'],
	['readable by others', sub { write_file(0644, "$new\n") }, 'is accessible to others'],
	['readable by a group', sub { write_file(0640, "$new\n") }, 'is accessible to others'],
	['a directory', sub { unlink $file; mkdir $file, 0700 }, 'is not a regular file'],
	['in the data directory', sub { rmdir $file; symlink $node->data_dir . '/pepper', $file; append_to_file($node->data_dir . '/pepper', "$new\n"); chmod 0600, $node->data_dir . '/pepper' }, 'is inside the data directory'])
{
	my ($what, $make, $why) = @$_;
	$make->();
	reload();
	$log = -s $node->logfile;
	is($ask->($plain), 'unavailable', "$what: a known key");
	is(sql("SELECT code, num_nulls(key_id, name, owner) FROM apikey_verify('$second')"), 'unavailable|3', "$what: in a new session");
	is(sql("SELECT code FROM apikey_verify('ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk') UNION ALL
		SELECT code FROM apikey_verify(left('$second', -1) || CASE right('$second', 1) WHEN '0' THEN '1' ELSE '0' END) UNION ALL SELECT code FROM apikey_verify('x')"),
		"unavailable\nmalformed\nmalformed", "$what: an unknown key, and what is none");
	my ($result, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT apikey_create('late')");
	like($stderr, qr/ERROR:  55000: the file that "apikey.pepper_file" names cannot be used/, "$what: creating");
	unlike($stderr, qr/$why/, "$what: the client is not told why");
	like(slurp_file($node->logfile, $log), qr/WARNING:  some API keys cannot be verified\n.*DETAIL:  File "\Q$file\E" $why/, "$what: the log says why");
}
# Nor does the log tell the key, or the client the reason.
my ($silent, $told, $noise) = $node->psql('postgres', "SET log_statement = 'none'; SET client_min_messages = log;
	SELECT 1; SELECT code FROM apikey_verify('$second')");
is("$told|$noise", "1\nunavailable|", 'the client is told the code alone');
$log = slurp_file($node->logfile);
$log =~ s/.*SET log_statement = 'none'[^\n]*\n//s;
unlike($log, qr/$second/, 'a key that cannot be verified is not logged');
like($log, qr/some API keys cannot be verified/, 'while it is said that it cannot');
unlink $file;
write_file(0600, "$new\n$old\n");
reload();
is($ask->($first), 'valid', 'usable again');
is($ask->($plain), 'valid', 'for all keys');
$session->quit;

# Who may know and say where it is.
$node->safe_psql('postgres', 'CREATE ROLE mallory');
for my $statement ("SHOW apikey.pepper_file", "SET apikey.pepper_file = ''")
{
	my ($result, $stdout, $stderr) = $node->psql('postgres', "LOAD 'apikey'; SET ROLE mallory; $statement");
	like($stderr, qr/ERROR/, "$statement as an ordinary role");
}
is($node->safe_psql('postgres', "SET ROLE mallory; SELECT code FROM apikey_verify('$first', owner => '$owner')"), 'valid', 'who verifies need not read it');
# Nor can a connection's options hide it before the library is loaded.
$node->safe_psql('postgres', 'ALTER ROLE mallory LOGIN');
my @settings = split /\n/, $node->safe_psql('postgres', "LOAD 'apikey'; SELECT substr(name, 8) FROM pg_settings WHERE name LIKE 'apikey.%' AND context <> 'user'");
cmp_ok(scalar @settings, '>=', 25, 'settings that are not everybody\'s');
for my $setting (@settings)
{
	local $ENV{PGOPTIONS} = "-c apikey.$setting=";
	for my $statement ("SELECT apikey_create('unpeppered')", "SET apikey.$setting = ''; SELECT code FROM apikey_verify('$first')")
	{
		my ($result, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement", extra_params => [ '-U', 'mallory' ]);
		like($stderr, qr/ERROR:  42501: permission denied to set parameter "apikey.$setting"/, "$setting, $statement");
	}
	is($node->safe_psql('postgres', "SELECT code FROM apikey_verify('nonsense')"), 'malformed', 'a superuser may');
}
unlike(slurp_file($node->logfile), qr/\Q$old\E|\Q$new\E/, 'no pepper in the log');
$node->stop;

# With the library loaded the log is told at the server's start and at each
# reload, and then once a minute, whichever sessions meet it.
unlink $file;
$node = PostgreSQL::Test::Cluster->new('loaded');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'\napikey.pepper_file = '$file'");
$node->start;
my $warning = qr/WARNING:  some API keys cannot be verified\n.*DETAIL:  File "\Q$file\E"/;
like(slurp_file($node->logfile), qr/$warning cannot be opened/, 'told at the start');
sql('CREATE EXTENSION apikey CASCADE');
$log = -s $node->logfile;
is(sql("SELECT code FROM apikey_verify('$first')"), 'unavailable', 'nothing is decided') for 1 .. 3;
unlike(slurp_file($node->logfile, $log), $warning, 'nor told again');
write_file(0644, "$new\n");
$node->reload;
$node->wait_for_log(qr/$warning is accessible to others/, $log);
$log = -s $node->logfile;
is(sql("SELECT code FROM apikey_verify('$first')"), 'unavailable', 'told at a reload') for 1 .. 3;
unlike(slurp_file($node->logfile, $log), $warning, 'and not again');
write_file(0600, "$new\n");
$node->reload;
my $create = q{DO $$ BEGIN PERFORM apikey_create('passing'); RAISE SQLSTATE 'RB000'; EXCEPTION WHEN SQLSTATE 'RB000' THEN END $$; SELECT true};
ok($node->poll_query_until('postgres', $create, "DO\nt"), 'usable');
my @keys = map { sql("SELECT apikey_create('key-$_')") } 1 .. 3;
write_file(0600, "$old\n");
$node->reload;
ok($node->poll_query_until('postgres', "SELECT code = 'unavailable' FROM apikey_verify('$keys[0]')"), 'without their pepper');
is(sql("SELECT code FROM apikey_verify('$_')"), 'unavailable', 'each of the keys') for @keys;
my $count = () = slurp_file($node->logfile, $log) =~ /is keyed with the pepper of fingerprint/g;
is($count, 1, 'told once, on the whole server');
$node->stop;
done_testing();
