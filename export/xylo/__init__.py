"""SynSense's Xylo, a core of one recurrent population: rules, integers, and execution in xylosim."""
