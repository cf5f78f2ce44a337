# SPDX-License-Identifier: MIT OR Apache-2.0
# Generated from the definition of bpf-oomctl's command line.

# How many arguments there are after the command. Options with their values in another word are few, and known.
function __bpf_oomctl_place
    set -l place -1
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip -eq 1
            set skip 0
        else if contains -- $word $argv[2..-1]
            set skip 1
        else if not string match -qr -- '^-[^.]' $word
            set place (math $place + 1)
        end
    end
    string match -qr -- "^$argv[1]\$" $place
end

complete -c bpf-oomctl -f
complete -c bpf-oomctl -n __fish_use_subcommand -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n __fish_use_subcommand -s h -l help -d 'Print help'
complete -c bpf-oomctl -n __fish_use_subcommand -s V -l version -d 'Print version'
complete -c bpf-oomctl -n __fish_use_subcommand -a status -d 'Show whether bpf-oomd runs, what the kernel can do, what was done, and what is wrong'
complete -c bpf-oomctl -n __fish_use_subcommand -a list -d 'Show units: their policies and where those are said, memory, pressure, kills'
complete -c bpf-oomctl -n __fish_use_subcommand -a tree -d 'Show the tree of cgroups: memory, policies, and who would die next'
complete -c bpf-oomctl -n __fish_use_subcommand -a explain -d 'Show every setting of a unit, with where it was said and what was overruled'
complete -c bpf-oomctl -n __fish_use_subcommand -a simulate -d 'Show who would die if a unit ran out of memory now, and who after that'
complete -c bpf-oomctl -n __fish_use_subcommand -a kills -d 'Show who was killed, when, by whom and why'
complete -c bpf-oomctl -n __fish_use_subcommand -a notify -d 'Tell the user of a desktop which of their applications were killed, and why'
complete -c bpf-oomctl -n __fish_use_subcommand -a policies -d 'Show which policies there are, what they do, and what they can be told'
complete -c bpf-oomctl -n __fish_use_subcommand -a pressure -d 'Show the units that are watched for pressure, and what came of their stalls'
complete -c bpf-oomctl -n __fish_use_subcommand -a top -d 'Show pressure, memory and next victims again and again'
complete -c bpf-oomctl -n __fish_use_subcommand -a set-policy -d 'Give a unit a policy at run time, whatever its files and the configuration say'
complete -c bpf-oomctl -n __fish_use_subcommand -a reset-policy -d 'Take away the policy that a unit was given at run time'
complete -c bpf-oomctl -n __fish_use_subcommand -a reload -d 'Let bpf-oomd read the configuration and all unit files again'
complete -c bpf-oomctl -n __fish_use_subcommand -a check -d 'Check configuration files and unit files; without arguments the whole configuration'
complete -c bpf-oomctl -n __fish_use_subcommand -a cat-config -d 'Show the configuration files that are in force, in the order in which they apply'

complete -c bpf-oomctl -n '__fish_seen_subcommand_from status' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from status' -s h -l help -d 'Print help (see more with \'--help\')'

complete -c bpf-oomctl -n '__fish_seen_subcommand_from list' -s a -l all -d 'Show all that systemd has loaded, also those that do not run'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from list' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from list' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from list; and __bpf_oomctl_place "[0-9]+"' -a '(bpf-oomctl complete-units 2>/dev/null)'

complete -c bpf-oomctl -n '__fish_seen_subcommand_from tree' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from tree' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from tree; and __bpf_oomctl_place "0"' -a '(bpf-oomctl complete-units 2>/dev/null)'

complete -c bpf-oomctl -n '__fish_seen_subcommand_from explain' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from explain' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from explain; and __bpf_oomctl_place "[0-9]+"' -a '(bpf-oomctl complete-units 2>/dev/null)'

complete -c bpf-oomctl -n '__fish_seen_subcommand_from simulate' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from simulate' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from simulate; and __bpf_oomctl_place "0"' -a '(bpf-oomctl complete-units 2>/dev/null)'

complete -c bpf-oomctl -n '__fish_seen_subcommand_from kills' -l since -x -d 'Since when: "2026-11-25 14:12:00", "14:12", "yesterday", "1h ago", "-10min"'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from kills' -l max -x -d 'No more than that many, the newest ones'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from kills' -l unit -x -a '(bpf-oomctl complete-units 2>/dev/null)' -d 'Of this unit alone; may be given more than once'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from kills' -s f -l follow -d 'Go on as kills happen'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from kills' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from kills' -s h -l help -d 'Print help (see more with \'--help\')'

complete -c bpf-oomctl -n '__fish_seen_subcommand_from notify' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from notify' -s h -l help -d 'Print help (see more with \'--help\')'

complete -c bpf-oomctl -n '__fish_seen_subcommand_from policies' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from policies' -s h -l help -d 'Print help'

complete -c bpf-oomctl -n '__fish_seen_subcommand_from pressure' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from pressure' -s h -l help -d 'Print help (see more with \'--help\')'

complete -c bpf-oomctl -n '__fish_seen_subcommand_from top' -l interval -x -d 'How long from one view to the next: 500ms, 5'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from top' -s n -l iterations -x -d 'End after that many views'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from top' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from top' -s h -l help -d 'Print help (see more with \'--help\')'

complete -c bpf-oomctl -n '__fish_seen_subcommand_from set-policy' -l for -x -d 'For how long: 10min, 1h 30min'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from set-policy' -l no-ask-password -d 'Ask nobody for a password: what needs one is refused'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from set-policy' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from set-policy' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from set-policy; and __bpf_oomctl_place "0" --for' -a '(bpf-oomctl complete-units 2>/dev/null)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from set-policy; and __bpf_oomctl_place "1" --for' -a '(bpf-oomctl complete-policies 2>/dev/null)'

complete -c bpf-oomctl -n '__fish_seen_subcommand_from reset-policy' -l no-ask-password -d 'Ask nobody for a password: what needs one is refused'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from reset-policy' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from reset-policy' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from reset-policy; and __bpf_oomctl_place "0"' -a '(bpf-oomctl complete-units 2>/dev/null)'

complete -c bpf-oomctl -n '__fish_seen_subcommand_from reload' -l no-ask-password -d 'Ask nobody for a password: what needs one is refused'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from reload' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from reload' -s h -l help -d 'Print help (see more with \'--help\')'

complete -c bpf-oomctl -n '__fish_seen_subcommand_from check' -l root -x -a '(__fish_complete_directories)' -d 'Check the configuration below another root directory'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from check' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from check' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from check; and __bpf_oomctl_place "[0-9]+" --root' -F

complete -c bpf-oomctl -n '__fish_seen_subcommand_from cat-config' -l root -x -a '(__fish_complete_directories)' -d 'Show those below another root directory'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from cat-config' -l json -d 'Print JSON, as described in bpf-oomctl(1)'
complete -c bpf-oomctl -n '__fish_seen_subcommand_from cat-config' -s h -l help -d 'Print help'
