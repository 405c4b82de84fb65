"""The notebooks of docs/notebooks/ run from the first to the last cell, draw what is stored in them, and print the same
where the numbers do not depend on the release of torch."""
import importlib.util
import os
import pathlib
import unittest

FOLDER = pathlib.Path(os.environ["SPIKEFLOSS_SOURCE"]) / "docs" / "notebooks"


def needs(*modules):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return unittest.skipIf(missing, f"not installed: {', '.join(missing)}")


def outputs(notebook, kind):
    return [output for cell in notebook.cells for output in cell.get("outputs", []) if kind(output)]


@needs("nbclient", "ipykernel", "matplotlib")
class NotebookTest(unittest.TestCase):
    def run_notebook(self, name, same_text=False):
        import nbclient
        import nbformat

        stored = nbformat.read(FOLDER / f"{name}.ipynb", 4)
        found = nbformat.from_dict(stored)
        for cell in found.cells:
            if cell.cell_type == "code":
                cell.outputs = []
        # Raises an error if a cell does.
        nbclient.NotebookClient(found, timeout=600, kernel_name="python3",
                                resources={"metadata": {"path": str(FOLDER)}}).execute()
        pictures, expected = (outputs(book, lambda o: "image/png" in o.get("data", {})) for book in (found, stored))
        self.assertEqual(len(pictures), len(expected))
        self.assertTrue(expected)
        if same_text:
            text, wanted = ([o.text for o in outputs(book, lambda o: o.get("name") == "stdout")] for book in (found, stored))
            self.assertEqual(text, wanted)

    def test_published_network(self):
        self.run_notebook("published_network", same_text=True)

    def test_phase_diagram(self):
        self.run_notebook("phase_diagram", same_text=True)

    @needs("pandas")
    def test_train_and_look(self):
        self.run_notebook("train_and_look")

    @needs("torch", "snntorch")
    def test_floss_your_model(self):
        self.run_notebook("floss_your_model")
