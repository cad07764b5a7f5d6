-- Send what arrives to the node, and not what the node has made.
function OnStoredInstance(instance, tags, metadata, origin)
   if tags['Manufacturer'] ~= 'MedSegLatDiff' then
      SendToModality(instance, 'medseg')
   end
end
