"""A stage's answer as a table for people; programs take the JSON."""

from .comparing import comparison_table as comparison_table
from .conformance import conformance_table as conformance_table
from .conformance import recipes_table as recipes_table
from .energy import citation_text as citation_text
from .energy import energy_table as energy_table
from .known import catalogue_table as catalogue_table
from .known import doctor_table as doctor_table
from .placed import check_table as check_table
from .placed import export_table as export_table
from .placed import placement_table as placement_table
from .profiles import profile_table as profile_table
from .stages import quantize_table as quantize_table
from .stages import train_table as train_table
from .stages import validation_table as validation_table
from .streaming import stream_table as stream_table
