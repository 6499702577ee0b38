"""Makes the lists beside it: by LibreOffice Calc, by openpyxl, and byte by byte. Run it in this folder."""

import subprocess
import tempfile
from pathlib import Path

import openpyxl

HERE = Path(__file__).parent
ROWS = [["Telefon", "Ad"], ["0555 111 22 33", "Çağla"], ["0(532) 111 22 34", "Şule"], ["5321112235", "İnci"]]
PLAIN = "phone,name\n+905551112233,Ada\n+905321112234,Bora\n"


def text(rows: list[list[str]], delimiter: str = ";", ending: str = "\r\n") -> str:
    """Return rows as Excel writes them."""
    return "".join(delimiter.join(row) + ending for row in rows)


def by_hand() -> None:
    """Write the files that programs other than spreadsheets leave behind."""
    contents = {
        "crm-utf8.csv": PLAIN.encode(),
        "excel-csv-utf8.csv": text(ROWS).encode("utf-8-sig"),
        "excel-unicode-text.csv": text(ROWS, "\t").encode("utf-16"),
        "excel-turkish.csv": text(ROWS).encode("cp1254"),
        "excel-sep.csv": ("sep=;\r\n" + text(ROWS)).encode(),
        "float-phones.csv": b"phone,name\n905551112233.0,Ada\n,Bora\n905321112234.0,Can\n",
        "exponents.csv": b"GSM;Ad\r\n9,05551E+11;Ada\r\n+905321112234;Bora\r\n",
        "form-tool.csv": '"Your phone\n(+90…)",name\n+905551112233,Ada\n'.encode(),
        "empty-columns.csv": b"phone,name,,\n+905551112233,Ada,,\n,,,\n+905321112234,Bora,,\n",
        "unclosed-quote.csv": b'phone,name\n+905551110001,"Ada\n+905551110002,Bora\n+905551110003,Can\n',
        "ragged.csv": b"phone,name\n+905551112233\n+905321112234,Bora,x\n+905321112235,Can\n",
        "two-numbers.csv": b"phone,name\n+905551112233 / +905321112234,Ada\n+905321112235,Bora\n",
        "web-page.csv": "phone,name\n\u202a+90\u00a0555\u00a0111\u00a022\u00a033\u202c,Ada\n".encode(),
        "latin-america.csv": b"phone,name\n+5491123456789,Ada\n+541123456789,Ada\n+5511987654321,Bora\n",
        "line-breaks.csv": b'phone,name\n+905551112233,"Ada\nLovelace"\n+905321112234,B\tC\n',
        "no-header.csv": b"+905551112233,Ada\n+905321112234,Bora\n",
    }
    for name, content in contents.items():
        (HERE / name).write_bytes(content)


def by_openpyxl() -> None:
    """Write what reporting tools export: phones as numbers, and notes on the first sheet."""
    book = openpyxl.Workbook()
    for row in (["phone", "name"], [905551112233, "Ada"], [5321112234, "Bora"], ["+90 532 111 22 35", "Can"]):
        book.active.append(row)
    book.save(HERE / "numbers.xlsx")
    book = openpyxl.Workbook()
    book.active.append(["read me first"])
    page = book.create_sheet("Liste")
    for row in ROWS:
        page.append(row)
    page.append([None, None])
    book.save(HERE / "second-sheet.xlsx")


def by_calc() -> None:
    """Let LibreOffice Calc convert a list, as a marketer saves it."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "calc.csv"
        source.write_text(PLAIN, encoding="utf-8")
        for ending in ("ods", "xlsx"):
            command = ["soffice", "--headless", "--convert-to", ending, "--outdir", str(HERE), str(source)]
            subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    by_hand()
    by_openpyxl()
    by_calc()
