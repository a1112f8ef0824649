# Munin's own reading of plugin text, as JSON, for TestAgainstMunin.
# Standard input: per case a line {"do": "config" | "fetch", "plugin": ..., "text": ... (bytes as Latin-1)}; standard output:
# per case a line of what Munin::Master::Node makes of it, an attribute or value each as a list of words.
use strict;
use warnings;
use JSON::PP;
use Log::Log4perl qw(:easy);
Log::Log4perl->easy_init($OFF);
use Munin::Master::Node;

my $json = JSON::PP->new->latin1->canonical;
my $node = Munin::Master::Node->new('address', 4949, 'host', {});

while (my $line = <STDIN>) {
	my $case = $json->decode($line);
	my $text = $case->{text};
	utf8::downgrade($text);
	$text =~ tr/\r//d;
	my @lines = split /\n/, $text;
	my $name = $node->_sanitise_plugin_name($case->{plugin});
	my @out;
	if ($case->{do} eq 'config') {
		my %config = $node->parse_service_config($name, \@lines);
		for my $service (@{$config{global}{multigraph}}) {
			push @out, ['service', $service];
			push @out, ['graph', $service, @$_] for @{$config{global}{$service}};
			my $fields = $config{data_source}{$service};
			for my $field (keys %$fields) {
				for my $attr (keys %{$fields->{$field}}) {
					my $value = $fields->{$field}{$attr};
					push @out, ['field', $service, $field, $attr, $value] unless ref $value;
				}
				push @out, values_of($service, $field, $fields->{$field});
			}
		}
	} else {
		my %data = $node->parse_service_data($name, \@lines);
		for my $service (keys %data) {
			for my $field (keys %{$data{$service}}) {
				my $d = $data{$service}{$field};
				push @out, ['extinfo', $service, $field, $d->{extinfo}] if defined $d->{extinfo};
				push @out, values_of($service, $field, $d);
			}
		}
	}
	print $json->encode(\@out), "\n";
}

sub values_of {
	my ($service, $field, $d) = @_;
	return map { ['value', $service, $field, "$d->{when}[$_]", "$d->{value}[$_]"] } 0 .. $#{$d->{value} || []};
}
