# Keys of revealable projects are shown again; what is kept of them is not
# their text, and nothing without the pepper.
use strict;
use warnings;
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
$node->init;
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
sub fails { my ($sql) = @_; my ($r, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql"); return $err =~ /ERROR:  (\w{5})/ ? $1 : 'none' }

sql(q{CREATE EXTENSION apikey CASCADE; CREATE ROLE anna; CREATE ROLE dora;
	SELECT apikey_organization_create('acme'); SELECT apikey_project_create('acme/pay');
	SELECT apikey_member_add('acme/pay', 'anna', 'admin'); SELECT apikey_member_add('acme/pay', 'dora', 'developer')});
my $revealable = sub { sql("UPDATE apikey_projects SET revealable = $_[0] WHERE path = 'acme/pay'") };
my $create = sub { sql("SET ROLE anna; SELECT apikey_create('$_[0]', 'acme/pay')") };
my $reveal = sub { return "SET ROLE anna; SELECT apikey_reveal(apikey_id('$_[0]'))" };

$revealable->('true');
my $unpeppered = $create->('unpeppered');
write_file("$old\n");
$node->append_conf('postgresql.conf', "apikey.pepper_file = '$file'");
$node->restart;
my $first = $create->('first');
$revealable->('false');
my $plain = $create->('plain');
$revealable->('true');
my $personal = sql(q{SET ROLE anna; SELECT apikey_create('personal')});

is(sql($reveal->($first)), $first, 'a key of a revealable project');
is(fails($reveal->($unpeppered)), '55000', 'one that was made without a pepper');
is(fails($reveal->($plain)), '55000', 'one that was made while the project was not revealable');
is(fails($reveal->($personal)), '55000', 'a personal one');
is(fails("SET ROLE dora; SELECT apikey_reveal(apikey_id('$first'))"), '42704', 'a developer');
sql(q{UPDATE apikey_projects SET members_can_view = true});
is(fails("SET ROLE dora; SELECT apikey_reveal(apikey_id('$first'))"), '42501', 'one who sees it');
my $top = sql(q{SELECT apikey_create('top', 'acme/pay')});
is(fails($reveal->($top)), '42501', 'a key above the own role');
is(sql("SELECT apikey_reveal(apikey_id('$top'))"), $top, 'for a superuser');
is(sql(q{SELECT key_name, actor FROM apikey_events WHERE event = 'revealed' AND actor = 'anna'}), 'first|anna', 'each is an event');
$revealable->('false');
is(sql($reveal->($first)), $first, 'the setting is about the time when a key is made');
$revealable->('true');

# What is kept.
unlike(sql(q{SELECT encode(ciphertext, 'escape') FROM apikey_reveal}), qr/\Q$first\E|\Q@{[substr($first, 30, 20)]}\E/, 'not the text');
is(sql(q{SELECT count(*) FROM apikey_reveal WHERE position('ak_'::bytea IN ciphertext) > 0}), '0', 'nor a part of it');
$node->stop;
my $found = 0;
for my $path (split /\n/, `find @{[$node->data_dir]} -type f -not -name 'postmaster*'`)
{
	$found++ if slurp_file($path) =~ /\Q@{[substr($first, -39, 33)]}\E/;
}
is($found, 0, 'no file of the server has the secret');
$node->start;

# The rows of two keys exchanged.
sql("UPDATE apikey_reveal SET ciphertext = (SELECT ciphertext FROM apikey_reveal WHERE id = apikey_id('$top')) WHERE id = apikey_id('$first')");
is(fails($reveal->($first)), '55000', 'the text of another key');

# Rotation, revocation, deletion, another pepper.
my $second = $create->('second');
my $third = sql("SET ROLE anna; SELECT apikey_rotate(apikey_id('$second'), '1 hour')");
is(sql($reveal->($third)) . sql($reveal->($second)), $third . $second, 'a successor, and its predecessor');
my $fourth = sql("SET ROLE anna; SELECT apikey_rotate(apikey_id('$third'))");
is(fails($reveal->($third)) . fails($reveal->($second)), '5500055000', 'until it is revoked');
is(sql(q{SELECT count(*) FROM apikey_reveal r JOIN apikeys k USING (id) WHERE status = 'revoked'}), '0', 'then nothing is kept');
write_file("$new\n$old\n");
$node->restart;
my $fifth = $create->('fifth');
is(sql($reveal->($fourth)) . sql($reveal->($fifth)), $fourth . $fifth, 'under either pepper');
# One that is used moves with its digest, where the worker is.
my $used = 'used';
write_file("$old\n");
$node->restart;
$used = $create->('used');
write_file("$new\n$old\n");
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'apikey'\napikey.flush_interval = '100ms'");
$node->restart;
is(sql("SELECT count(*) FROM apikey_reveal WHERE id IN (apikey_id('$used'), apikey_id('$top')) AND pepper = (SELECT pepper FROM apikey_reveal WHERE id = apikey_id('$fifth'))"),
	'0', 'two are under the old one');
is(sql("SELECT code FROM apikey_verify('$used', project => 'acme')"), 'valid', 'one is used');
ok($node->poll_query_until('postgres', "SELECT r.pepper = (SELECT pepper FROM apikey_reveal WHERE id = apikey_id('$fifth')) FROM apikey_reveal r WHERE id = apikey_id('$used')"),
	'and moves to the new one');
write_file("$new\n");
$node->restart;
is(fails("SELECT apikey_reveal(apikey_id('$top'))"), '55000', 'a pepper that is gone');
is(sql($reveal->($fourth)) . sql($reveal->($fifth)) . sql($reveal->($used)), $fourth . $fifth . $used, 'what was shown or used is under the one that is not');
unlink $file;
$node->restart;
is(fails($reveal->($fifth)), '55000', 'no pepper at all');
write_file("$new\n");
$node->restart;
sql(q{SELECT apikey_delete(id, name) FROM apikeys WHERE name = 'fifth'});
is(sql("SELECT count(*) FROM apikey_reveal WHERE id = apikey_id('$fifth')"), '0', 'a deleted key');
sql(q{SELECT apikey_project_drop('acme/pay', 'acme/pay')});
is(sql('SELECT count(*) FROM apikey_reveal'), '0', 'a dropped project');

# A function planted in front of pgcrypto's is not called.
sql(q{SELECT apikey_project_create('acme/new'); UPDATE apikey_projects SET revealable = true;
	CREATE FUNCTION pgp_sym_decrypt(bytea, text, VARIADIC text[]) RETURNS text LANGUAGE sql AS $$ SELECT 'planted' $$});
my $last = sql(q{SELECT apikey_create('last', 'acme/new')});
is(sql("SELECT apikey_reveal(apikey_id('$last'))"), $last, 'a planted function');
$node->stop;
done_testing();
