# What names the version names one version.
use strict;
use warnings;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my ($version) = slurp_file('apikey.control') =~ /^default_version\s*=\s*'([^']+)'/m;
my $meta = decode_json(slurp_file('META.json'));
like($version, qr/^\d+\.\d+\.\d+$/, 'a version in the control file');
my ($told, $missed) = run_command([ 'contrib/release', 'check' ]);
is("$told$missed", "$version everywhere", 'contrib/release check');
ok(-e $meta->{provides}{apikey}{docfile}, 'its documentation');

# README.md is short, and docs/reference.md names whatever a user may meet.
my @readme = split /\n/, slurp_file('README.md');
cmp_ok(scalar(@readme), '<=', 250, 'README.md has at most 250 lines');
my $reference = slurp_file('docs/reference.md');
my $script = slurp_file('sql/apikey.sql');
my $code = join '', map { slurp_file($_) } grep { !/unicode_ranges/ } glob('src/*.c src/*/*.c');
my @views = $script =~ /^(CREATE VIEW .*?;)$/msg;
my %named = (
	functions => [ $script =~ /CREATE FUNCTION \@extschema\@\.(apikey_\w+)/g ],
	views => [ map { /(apikey\w*)/ } map { /extschema\@\.(\w+)/ } @views ],
	columns => [ map { /COMMENT ON COLUMN \@extschema\@\.\w+\.(\w+)/g } $script ],
	settings => [ $code =~ /DefineCustom\w+\("(apikey\.\w+)"/g ],
	events => [ $code =~ /\[APIKEY_EVENT_\w+\] = "(\w+)"/g ],
	codes => [ $code =~ /\[APIKEY_CODE_\w+\] = "(\w+)"/g ],
	rules => [ $code =~ /apikey_refuse_by\("(\w+)"/g ]);
for my $kind (sort keys %named)
{
	my %names = map { $_ => 1 } @{ $named{$kind} };
	cmp_ok(scalar(keys %names), '>', 4, "the project has $kind");
	is(join(' ', grep { $reference !~ /\b\Q$_\E\b/ } sort keys %names), '', "docs/reference.md names all $kind");
}

# What is linked from a page is there.
for my $page ('README.md', 'CONTRIBUTING.md', glob('docs/*.md examples/README.md examples/*/README.md'))
{
	my $folder = $page =~ m,(.*/), ? $1 : '';
	my @links = map { s/#.*//r } slurp_file($page) =~ /\]\((?!https?:)([^)]+)\)/g;
	is(join(' ', grep { $_ ne '' && !-e "$folder$_" } @links), '', "$page: what it links to is there");
}

# The servers that are started by scripts, and trust whoever connects, let nobody
# do so but their own user.
my ($private, $errors) = run_command([ 'bash', '-c', q{
	. contrib/lib.sh
	BIN=$(pg_config --bindir) MAJOR=$(pg_config --version | sed 's/^[^0-9]*//; s/[^0-9].*//')
	make_work
	[ "$(id -u)" != 0 ] || chown postgres: "$WORK"
	write_conf
	start_server
	sql -At -c 'SELECT 1'
	stat -c %a "$WORK"/.s.PGSQL.*[0-9]
	awk '$1 == "host" {print $NF}' "$WORK/data/pg_hba.conf" | sort -u
	cat "$CONF" "$WORK/data/postgresql.conf" | grep -c '^unix_socket_permissions = 0700$' } ]);
is($private, "1\n700\nscram-sha-256\n2", 'a server by contrib/lib.sh is its own user\'s alone') or diag($errors);
for my $script (grep { -f && !/\.(pl|pm|md)$/ } glob('quickstart contrib/* test/* test/bench/* test/long/* test/fuzz/*'))
{
	my $text = slurp_file($script);
	next if $text !~ m{\binitdb\b|/server\.conf"} || $script eq 'contrib/lib.sh';
	like($text, qr/\$PRIVATE|\$CONF|unix_socket_permissions=0700/, "nor has $script another");
}
done_testing();
