import html, xml.etree.ElementTree as ET
from html.parser import HTMLParser
from xml.dom import minidom
root = ET.fromstring('<r xmlns:n="urn:n"><a id="1">x &amp; y<b/>tail</a><n:a id="2">é</n:a><!-- c --><a id="3"><![CDATA[<raw>]]></a></r>')
print([(e.tag, e.attrib, e.text, e.tail) for e in root.iter()], [e.get("id") for e in root.findall("a[@id]")], root.find("a/b").tail)
for e in root.findall("a"): e.set("seen", "1")
ET.SubElement(root, "new", {"k": '"<>&'}).text = "t<"
print(ET.tostring(root, encoding="unicode"))
ET.indent(root); print(ET.tostring(root).decode()[:200])
print(minidom.parseString("<a><b c='1'/></a>").toprettyxml(indent=" "))
class Links(HTMLParser):
    found = []
    def handle_starttag(self, tag, attributes): self.found.append((tag, dict(attributes)))
    def handle_data(self, data): self.found.append(data) if data.strip() else None
p = Links(); p.feed("<p>Hi &lt;there&gt; <a href='/x?a=1&amp;b=2'>link</a><br><img src=y.png></p>"); p.close()
print(p.found, html.escape("<a href='x'>&</a>"), html.unescape("&eacute;&#233;&#x1F980;&amp;lt;"))
try: ET.fromstring("<a><b></a>")
except ET.ParseError as problem: print(problem.position, problem.code)
