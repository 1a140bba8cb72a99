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
ok(-e $meta->{provides}{apikey}{docfile}, 'its documentation');

# Every function of the install script is in README.md.
my $readme = slurp_file('README.md');
my %public = map { $_ => 1 }
  slurp_file('sql/apikey.sql') =~ /CREATE FUNCTION \@extschema\@\.(apikey_\w+)/g;
is(join(' ', grep { $readme !~ /\b$_\b/ } sort keys %public),
	'', 'functions that README.md does not name');
done_testing();
