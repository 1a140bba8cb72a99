# What names the version names one version.
use strict;
use warnings;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my ($version) = slurp_file('apikey.control') =~ /^default_version\s*=\s*'([^']+)'/m;
my $meta = decode_json(slurp_file('META.json'));
my ($newest) = slurp_file('CHANGELOG.md') =~ /^## (\S+)/m;
like($version, qr/^\d+\.\d+\.\d+$/, 'a version in the control file');
is($meta->{version}, $version, 'META.json');
is($meta->{provides}{apikey}{version}, $version, 'META.json, the extension');
is($newest, $version, 'CHANGELOG.md');
is(decode_json(slurp_file('clients/node/package.json'))->{version}, $version, 'clients/node');
like(slurp_file('clients/python/pyproject.toml'), qr/^version = "\Q$version\E"$/m, 'clients/python');
like(slurp_file('clients/python/src/pg_apikey/__init__.py'), qr/^__version__ = "\Q$version\E"$/m, 'clients/python, the module');
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
done_testing();
