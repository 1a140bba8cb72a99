#!/usr/bin/perl
# Makes unicode_ranges.h from Debian's package unicode-data:
#   perl src/text/make_unicode_ranges.pl > src/text/unicode_ranges.h
# Each entry starts a run of code points of one class, which reaches to the
# next entry.  Control, format and white-space characters are NONE; what else
# has no glyph (Default_Ignorable_Code_Point, private, not assigned) is HIDDEN.
use strict;
use warnings;

my $dir = $ARGV[0] // '/usr/share/unicode';
my %class = (NONE => 0, LETTER => 1, MARK => 2, DIGIT => 3, OTHER => 4, HIDDEN => 5);
my @points = ($class{HIDDEN}) x 0x110000;
my ($first, $version);

open(my $data, '<', "$dir/UnicodeData.txt") or die "$dir/UnicodeData.txt: $!";
while (<$data>)
{
	my ($code, $name, $category) = split /;/;
	my $to = hex $code;
	my $from = $name =~ /, Last>$/ ? $first : $to;
	$first = $to;
	my $c =
		$category =~ /^L/ ? 'LETTER'
	  : $category =~ /^M/ ? 'MARK'
	  : $category eq 'Nd' ? 'DIGIT'
	  : $category =~ /^[NPS]/ ? 'OTHER'
	  : $category =~ /^(Cc|Cf|Z)/ ? 'NONE'
	  : 'HIDDEN';
	@points[ $from .. $to ] = ($class{$c}) x ($to - $from + 1);
}

open(my $derived, '<', "$dir/DerivedCoreProperties.txt")
  or die "$dir/DerivedCoreProperties.txt: $!";
while (<$derived>)
{
	$version //= $1 if /^# DerivedCoreProperties-([0-9.]+)\.txt/;
	next
	  unless /^([0-9A-F]+)(?:\.\.([0-9A-F]+))?\s*;\s*Default_Ignorable_Code_Point/;
	for my $code (hex $1 .. hex($2 // $1))
	{
		$points[$code] = $class{HIDDEN} if $points[$code] != $class{NONE};
	}
}

my @runs;
my $last = -1;
for my $code (0 .. $#points)
{
	next if $points[$code] == $last;
	$last = $points[$code];
	push @runs, sprintf('0x%06X', $code << 3 | $last);
}

print <<"HEAD";
/*
 * unicode_ranges.h
 *		Which code points are letters, marks, digits, or else visible.
 *
 * Made from Unicode $version by make_unicode_ranges.pl; do not edit.
 */
static const uint32_t unicode_ranges[] = {
HEAD
while (my @line = splice(@runs, 0, 6))
{
	print "\t", join(', ', @line), ",\n";
}
print "};\n";
