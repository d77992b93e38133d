"""An evaluation as one HTML file that needs nothing else: `netgen.evaluation.report.sections.write_report`."""
