# A new pepper reaches keys that are used on a standby only: the standby proves
# them to the primary, and nothing that it tells verifies.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/..";
use Digest::SHA qw(hmac_sha256 hmac_sha256_hex sha256 sha256_hex);
use Fleet;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $dir = PostgreSQL::Test::Utils::tempdir();
my ($old, $new) = ('old-' . 'x' x 28, 'new-' . 'y' x 28);

sub write_peppers
{
	open my $out, '>', "$dir/peppers" or die $!;
	print $out "$_\n" for @_;
	close $out;
	chmod 0600, "$dir/peppers";
}

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '300ms'
cluster_name = 'primary'
});
$primary->start;
sub sql { return $primary->safe_psql('postgres', @_) }
sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE fleet LOGIN; SELECT apikey_grant('servers', 'fleet')});
my %keys = (plain => sql(q{SELECT apikey_create('plain')}));
write_peppers($old);
$primary->append_conf('postgresql.conf', "apikey.pepper_file = '$dir/peppers'");
$primary->restart;
$keys{first} = sql(q{SELECT apikey_create('first')});
# Another system's keys: one that was verified here, one that never was.
%keys = (%keys, verified => 'verified-' . 'v' x 30, never => 'never-' . 'n' x 30);
my %ids = (map({ $_ => sql("SELECT apikey_id('$keys{$_}')") } 'plain', 'first'),
	map { $_ => sql("SELECT apikey_import('$_', 'sha512', encode(sha512('$keys{$_}'), 'hex'))") } 'verified', 'never');
is(sql("SELECT code FROM apikey_verify('$keys{verified}')"), 'valid', 'verified once');
ok($primary->poll_query_until('postgres', q{SELECT count(*) = 1 FROM apikey_events WHERE event = 'rehashed'}), 'so it has a digest like others');

$primary->backup('backup');
my $standby = Fleet::member('standby', $primary, $primary);

my $tables = { plain => 'apikey_digest', first => 'apikey_digest', verified => 'apikey_import', never => 'apikey_import' };
sub stored { my ($name) = @_; return sql("SELECT encode(digest, 'hex') FROM $tables->{$name} WHERE id = '$ids{$name}'") }
my %before = map { $_ => stored($_) } keys %keys;

write_peppers($new, $old);
for my $node ($primary, $standby)
{
	$node->reload;
	ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM apikey_peppers WHERE place IS NOT NULL"), 'both peppers are in use');
}
sub verifies { my ($node, $name) = @_; return $node->safe_psql('postgres', "SELECT code FROM apikey_verify('$keys{$name}')") }
is(verifies($standby, $_), 'valid', "$_ verifies on the standby") for sort keys %keys;
for my $name ('plain', 'first', 'verified')
{
	my $wanted = hmac_sha256_hex(sha256($keys{$name}), $new);
	ok($primary->poll_query_until('postgres', "SELECT encode(digest, 'hex') = '$wanted' FROM $tables->{$name} WHERE id = '$ids{$name}'"), "$name has a digest by the new pepper");
}
is(stored('never'), '', 'what never was verified on the primary has none yet');
is(sql(q{SELECT string_agg(key_name, ' ' ORDER BY key_name) FROM apikey_events WHERE event = 'rehashed'}), 'first plain verified verified', 'events tell of it');
is(sql("SELECT masked_key FROM apikeys WHERE id = '$ids{verified}'"), $standby->safe_psql('postgres', "SELECT masked_key FROM apikeys WHERE id = '$ids{verified}'"), 'it is shown as before');
is(verifies($_, 'first'), 'valid', 'it verifies on ' . $_->name) for $primary, $standby;

# Nothing that was told verifies, nor is it in the log, in which all calls are.
my $log = slurp_file($primary->logfile);
like($log, qr/apikey_server_rehash/, 'the calls are in the log');
unlike($log, qr/${\sha256_hex($keys{$_})}/, "but no digest of $_") for 'plain', 'first', 'verified';

# What proves nothing changes nothing.
my $late = sql(q{SELECT apikey_create('late')});
my $server = sql(q{SELECT id FROM apikey_server WHERE name = 'standby'});
my $epoch = sql(q{SELECT epoch FROM apikey_server WHERE name = 'standby'});
sub proved
{
	my ($id, $hex) = @_;
	return sql("SELECT apikey_server_rehash('$server', $epoch, '{$id}', ARRAY['\\x$hex'::bytea])");
}
write_peppers($old, $new);
$primary->reload;
ok($primary->poll_query_until('postgres', q{SELECT place = 1 FROM apikey_peppers WHERE current}), 'the old one is current again');
my $stored = pack 'H*', stored('first');
my $proof = unpack 'H*', sha256($keys{first}) ^ hmac_sha256($stored . 'apikey proof v1', $old);
my %ids_of = (random => '00' x 32, digest => sha256_hex($keys{first}), stored => unpack('H*', $stored), 'of another' => unpack('H*', sha256($late) ^ hmac_sha256($stored . 'apikey proof v1', $old)));
is(proved($ids{first}, $ids_of{$_}), 0, "no proof: $_") for sort keys %ids_of;
is(proved(sql("SELECT apikey_id('$late')"), $proof), 0, 'a proof of another key');
is(proved(sql('SELECT gen_random_uuid()'), $proof), 0, 'or of none');
is($primary->psql('postgres', "SELECT apikey_server_rehash('$server', $epoch, '{$ids{first}}', '{NULL}')"), 3, 'null is refused');
is(proved($ids{first}, $proof), 1, 'the right one');
my $wanted = hmac_sha256_hex(sha256($keys{first}), $old);
ok($primary->poll_query_until('postgres', "SELECT encode(digest, 'hex') = '$wanted' FROM apikey_digest WHERE id = '$ids{first}'"), 'is taken');

# A digest that somebody holds is not written, so its key stays as it is.  Whoever
# verifies that all the time keeps the worker from nobody.
my $kept = sql(q{SELECT apikey_create('kept')});
my @beside = split /\n/, sql(q{SELECT apikey_create('beside-' || i, credits => 1000) FROM generate_series(1, 20) i});
$primary->wait_for_catchup('standby');
my $older = sql('SELECT fingerprint FROM apikey_peppers WHERE current');
write_peppers($new, $old);
for my $node ($primary, $standby)
{
	$node->reload;
	ok($node->poll_query_until('postgres', "SELECT fingerprint <> '$older' FROM apikey_peppers WHERE current"), 'another pepper is current on ' . $node->name);
}
my $holder = $primary->background_psql('postgres');
$holder->query_safe(q{BEGIN; SELECT apikey_delete(id, name) FROM apikeys WHERE name = 'kept'});
my $again = $standby->background_psql('postgres');
my $asked = -s $primary->logfile;
$again->query_until(qr/begun/, "\\echo begun\nSET apikey.cache_entries = 0; DO \$\$ BEGIN LOOP PERFORM code FROM apikey_verify('$kept'); END LOOP; END \$\$;\n");
$primary->wait_for_log(qr/apikey_server_rehash/, $asked);
my ($valid, $last) = (0, '');
for my $key (@beside)
{
	$last = $standby->safe_psql('postgres', "SELECT code FROM apikey_verify('$key')");
	$valid++ if $last eq 'valid';
	sleep 0.1;
}
cmp_ok($valid, '>=', 15, 'beside it others are leased what they spend') or diag("the last is $last");
$standby->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO %' AND pid <> pg_backend_pid()});
eval { $again->quit };
$holder->query_safe('ROLLBACK');
$holder->quit;
$_->stop for $standby, $primary;
done_testing();
